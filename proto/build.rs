//! Compiles `proto/` in pure Rust: no protoc.
use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 4] = [
    "thanos/types.proto",
    "thanos/store.proto",
    "thanos/info.proto",
    "thanos/hints.proto",
];

#[expect(
    clippy::disallowed_methods,
    reason = "a build product needs no durability"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // gRPC reflection serves these descriptors.
    fs::write(out.join("gauntlet.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".thanos.Chunk.data")
        .compile_fds(descriptors)?;
    Ok(())
}
