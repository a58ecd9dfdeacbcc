//! Targets to bytes.
//!
//! Owns: discovery, pools, loops, staleness, limits.
//! Never: knows where samples are kept.
//! Tested by: scripted targets beside the code and real exporters in `tests/appliance`.
