//! The object store seen as one namespace.
//!
//! Owns: keys of the Thanos layout, adapters, retries, metering, and a faulty one for tests.
//! Never: knows what is inside an object.
//! Tested by: `contract`, which every adapter runs.
