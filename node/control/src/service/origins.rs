//! Origins as a client sees them. A peer is one more of them.

use musicfs_core::id::{NodeId, OriginId};
use musicfs_core::peer::{PeerState, PeerStatus};
use musicfs_library::{Health, HealthState, Library, OriginStatus, Phase, Progress};
use musicfs_proto::v1;
use tonic::Status;

/// The kind of origin that a peer is.
const PEER_TYPE: &str = "peer";

/// The peer with this id.
pub(crate) fn peer(library: &Library, id: &str) -> Option<PeerStatus> {
    let id = NodeId::from_text(id)?;
    let list = library.peers()?.list();
    list.into_iter().find(|peer| peer.id == id)
}

/// Refuses what can be done with origins of this node alone; `action` is a participle.
///
/// # Errors
/// FAILED_PRECONDITION if `id` is that of a peer.
pub(crate) fn no_peer(library: &Library, id: &OriginId, action: &str) -> Result<(), Status> {
    match peer(library, id.as_str()) {
        None => Ok(()),
        Some(_) => Err(Status::failed_precondition(format!(
            "{id} is a peer, which cannot be {action}: it looks after its own origins"
        ))),
    }
}

pub(crate) fn origin_info(origin: OriginStatus) -> v1::OriginInfo {
    v1::OriginInfo {
        id: origin.row.name,
        origin_type: origin.row.kind,
        display_name: origin.row.display_name,
        health: Some(origin_health(origin.health)),
        file_count: origin.row.file_count,
        total_bytes: origin.row.total_bytes,
        last_sync_unix: origin.row.last_sync_unix,
    }
}

pub(crate) fn origin_health(health: Option<Health>) -> v1::OriginHealth {
    let Some(health) = health else {
        return v1::OriginHealth {
            error_message: Some("not configured; `musicfs origin forget` removes it".to_owned()),
            ..v1::OriginHealth::default()
        };
    };
    let status = match health.state {
        HealthState::Unknown => v1::HealthStatus::HealthUnknown,
        HealthState::Healthy => v1::HealthStatus::HealthHealthy,
        HealthState::Degraded => v1::HealthStatus::HealthDegraded,
        HealthState::Unhealthy => v1::HealthStatus::HealthUnhealthy,
    };
    v1::OriginHealth {
        status: status.into(),
        latency_ms: u32::try_from(health.latency.as_millis()).unwrap_or(u32::MAX),
        error_message: health.message,
        last_check_unix: health.checked_unix,
    }
}

/// A peer as an origin: its files are the versions that it announces.
pub(crate) fn peer_info(peer: &PeerStatus) -> v1::OriginInfo {
    let address = peer.address.map(|address| address.to_string());
    let display_name = match (peer.name.as_str(), address) {
        ("", Some(address)) => address,
        ("", None) => peer.id.to_string(),
        (name, Some(address)) => format!("{name} ({address})"),
        (name, None) => name.to_owned(),
    };
    v1::OriginInfo {
        id: peer.id.to_string(),
        origin_type: PEER_TYPE.to_owned(),
        display_name,
        health: Some(peer_health(peer)),
        file_count: peer.objects,
        ..v1::OriginInfo::default()
    }
}

pub(crate) fn peer_health(peer: &PeerStatus) -> v1::OriginHealth {
    let status = match peer.state {
        PeerState::Connecting => v1::HealthStatus::HealthUnknown,
        PeerState::Connected => v1::HealthStatus::HealthHealthy,
        PeerState::Demoted => v1::HealthStatus::HealthDegraded,
        PeerState::Lost => v1::HealthStatus::HealthUnhealthy,
    };
    v1::OriginHealth {
        status: status.into(),
        latency_ms: u32::try_from(peer.rtt.as_millis()).unwrap_or(u32::MAX),
        error_message: peer.last_error.clone(),
        last_check_unix: 0,
    }
}

pub(crate) fn sync_progress(id: &OriginId, progress: &Progress) -> v1::SyncProgress {
    let phase = match progress.phase {
        Phase::Scanning => v1::SyncPhase::Scanning,
        Phase::Indexing => v1::SyncPhase::Indexing,
        Phase::Complete => v1::SyncPhase::Complete,
    };
    v1::SyncProgress {
        origin_id: id.to_string(),
        phase: phase.into(),
        files_scanned: progress.files_scanned,
        files_changed: progress.files_changed,
        files_total: 0,
        bytes_transferred: progress.bytes_read,
        current_file: progress
            .current
            .clone()
            .filter(|current| !current.is_empty()),
        complete: progress.phase == Phase::Complete,
        error: progress.error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::peer;

    #[test]
    fn a_peer_is_an_origin_whose_health_is_its_state() {
        let check = |state, expect| {
            let info = peer_info(&peer(1, state));
            assert_eq!(info.id, "01".repeat(16));
            assert_eq!(info.origin_type, "peer");
            assert_eq!(info.display_name, "node-1 (192.0.2.1:4242)");
            assert_eq!(info.file_count, 12);
            let health = info.health.unwrap();
            assert_eq!(health.status(), expect, "{state:?}");
            assert_eq!(health.latency_ms, 3);
            assert_eq!(health.error_message.is_some(), state == PeerState::Lost);
        };
        check(PeerState::Connecting, v1::HealthStatus::HealthUnknown);
        check(PeerState::Connected, v1::HealthStatus::HealthHealthy);
        check(PeerState::Demoted, v1::HealthStatus::HealthDegraded);
        check(PeerState::Lost, v1::HealthStatus::HealthUnhealthy);
    }

    #[test]
    fn a_peer_is_called_by_what_is_known_of_it() {
        let name = |name: &str, has_address: bool| {
            let mut peer = peer(1, PeerState::Connected);
            peer.name = name.to_owned();
            peer.address = peer.address.filter(|_| has_address);
            peer_info(&peer).display_name
        };
        assert_eq!(name("den", false), "den");
        assert_eq!(name("", true), "192.0.2.1:4242");
        assert_eq!(name("", false), "01".repeat(16));
    }
}
