//! Finding other nodes: by multicast DNS, by names in DNS, at configured addresses.
//!
//! What is found are addresses; who is there, a connection shows. Nodes also tell each other whom they
//! know, over their connections.

pub(crate) mod tag;
