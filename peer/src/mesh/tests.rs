//! Nodes on loopback that meet, lose and mistake each other.

mod cluster;
mod fixture;
mod multicast;
mod strangers;

use super::*;
use fixture::*;
