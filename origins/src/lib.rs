//! Where music comes from: local directories.

mod local;

pub use local::{LocalConfig, LocalOrigin};
