//! Generates the control API's types from its `.proto` files, without the protoc binary.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const PROTOS: [&str; 2] = ["musicfs/v1/musicfs.proto", "musicfs/v1/peers.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(PROTOS, ["."])?;
    // For server reflection: the running daemon describes itself.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("musicfs_descriptor.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
