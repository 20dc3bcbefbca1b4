//! Real servers on loopback, what stands between them and their clients, and how to break both.
//!
//! Each server has ports and directories of its own and never outlives the test process, however
//! that ends. `tests/run.sh` installs the programs; without them a test fails.

pub mod proxy;
pub mod redis;
pub mod s3;
pub mod s3_client;
pub mod s3_proxy;
pub mod sftp;

mod http;
mod ports;
mod process;
mod reactor;
