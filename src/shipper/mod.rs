//! Local blocks to the bucket.
//!
//! Owns: what is uploaded, in which order, and the meta.json that ends an upload.
//! Never: deletes a block, locally or in the bucket.
//! Tested by: a faulty bucket beside the code.
