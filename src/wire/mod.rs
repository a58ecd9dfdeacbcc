//! The types generated from `proto/`, nothing else.
//!
//! Owns: the generated messages, clients and servers of StoreAPI and Info, and their descriptors.
//! Never: holds a line of its own logic; what messages mean is `api::grpc`'s business.
//! Tested by: `messages`, whose golden bytes fix every field number a peer relies on.
#[cfg(test)]
mod messages;

/// StoreAPI: package `thanos`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod thanos {
    tonic::include_proto!("thanos");

    /// What a process serves: package `thanos.info`.
    pub mod info {
        tonic::include_proto!("thanos.info");
    }
}

/// What StoreAPI messages carry inside their hints.
pub mod hintspb {
    tonic::include_proto!("hintspb");
}

/// Descriptors of all of `proto/`, as gRPC reflection serves them.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("gauntlet");
