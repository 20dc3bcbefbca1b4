//! Generates the types of the control API and of the peer protocol from their `.proto` files, without
//! the protoc binary.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const CONTROL: [&str; 2] = ["musicfs/v1/musicfs.proto", "musicfs/v1/peers.proto"];
/// Messages only: it has no service.
const PEER: [&str; 1] = ["musicfs/peer/v1/peer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in CONTROL.iter().chain(&PEER) {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(CONTROL, ["."])?;
    // For server reflection: the running daemon describes itself.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("musicfs_descriptor.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    // Its bytes are parts of the frame that they came in, not copies.
    let peer = protox::compile(PEER, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(peer)?;
    Ok(())
}
