//! Protocol buffers of MusicFS: the control API, and what nodes say to each other.
//!
//! The `.proto` files beside this crate's manifest are the contract; the code here is generated
//! from them at build time. Their comments hold meaning and units of every field.

/// Package `musicfs.v1`: the services `MusicFS` and `Peers` with their messages.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated code: its documentation is the .proto file's, its style the generator's"
)]
pub mod v1 {
    tonic::include_proto!("musicfs.v1");

    /// The encoded `FileDescriptorSet` of this package and its imports, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/musicfs_descriptor.bin"));
}

/// Package `musicfs.peer.v1`: the messages between nodes. How they travel is in `docs/protocol.md`.
pub mod peer {
    /// Version 1.
    #[allow(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code: its documentation is the .proto file's, its style the generator's"
    )]
    pub mod v1 {
        tonic::include_proto!("musicfs.peer.v1");
    }
}

#[cfg(test)]
mod tests {
    use super::{peer, v1};

    #[test]
    fn enum_values_keep_their_names_and_numbers() {
        let check = |name: &str, number: i32, expect_name: &str, expect_number: i32| {
            assert_eq!((name, number), (expect_name, expect_number));
        };
        let state = v1::MountState::Unmounting;
        check(
            state.as_str_name(),
            state.into(),
            "MOUNT_STATE_UNMOUNTING",
            5,
        );
        let tier = v1::CacheTier::Chunks;
        check(tier.as_str_name(), tier.into(), "CACHE_TIER_CHUNKS", 3);
        let health = v1::HealthStatus::HealthUnhealthy;
        check(health.as_str_name(), health.into(), "HEALTH_UNHEALTHY", 3);
        let phase = v1::SyncPhase::Complete;
        check(phase.as_str_name(), phase.into(), "SYNC_PHASE_COMPLETE", 4);
        let event = v1::EventType::ChunkCorrupt;
        check(
            event.as_str_name(),
            event.into(),
            "EVENT_TYPE_CHUNK_CORRUPT",
            12,
        );
        let peer = v1::PeerState::Demoted;
        check(peer.as_str_name(), peer.into(), "PEER_STATE_DEMOTED", 4);
        let full = v1::PrefetchStrategy::PrefetchFull;
        check(full.as_str_name(), full.into(), "PREFETCH_FULL", 2);
    }

    /// Old nodes and new ones talk to each other: what a number means is fixed for ever.
    #[test]
    fn a_message_between_nodes_keeps_its_bytes() {
        use peer::v1::{Answer, GetChunks, Request, Status, request};
        use prost::Message as _;
        let chunks = GetChunks {
            version: vec![7; 16].into(),
            hashes: vec![8; 32].into(),
        };
        let request = Request {
            what: Some(request::What::Chunks(chunks)),
        };
        let expect = [&[0x1a, 52, 0x0a, 16][..], &[7; 16], &[0x12, 32], &[8; 32]].concat();
        assert_eq!(request.encode_to_vec(), expect);
        let answer = Answer {
            status: Status::Busy.into(),
            lens: vec![1, 300],
            ..Answer::default()
        };
        let expect = [0x08, 3, 0x12, 3, 1, 0xac, 2];
        assert_eq!(answer.encode_to_vec(), expect);
    }

    #[test]
    fn the_descriptor_set_names_both_services() {
        use prost::Message as _;
        let set = prost_types::FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).unwrap();
        let services: Vec<&str> = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .map(prost_types::ServiceDescriptorProto::name)
            .collect();
        assert_eq!(services, ["MusicFS", "Peers"]);
    }
}
