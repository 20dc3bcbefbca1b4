//! The service `musicfs.v1.Peers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use musicfs_core::error::with_causes;
use musicfs_core::id::NodeId;
use musicfs_core::peer::{PeerState, PeerStatus, Peers};
use musicfs_library::{Holder, Located, PeersChanges};
use musicfs_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::ControlContext;
use crate::error::status;
use crate::service::{Answer, Streamed, origins};

/// Peers on their way to a client that watches them. One that is slower sees the latest state of
/// each, not every one.
const PEERS_WAITING_MAX: usize = 16;

/// Answers the calls. Without a cluster there are no peers.
pub(crate) struct PeersService {
    context: ControlContext,
}

impl PeersService {
    pub(crate) fn new(context: ControlContext) -> Self {
        Self { context }
    }

    fn peers(&self) -> Option<Arc<dyn Peers>> {
        self.context.library.peers()
    }

    fn peer(&self, id: &str) -> Result<PeerStatus, Status> {
        let none = || Status::not_found(format!("no peer has the id {id:?}"));
        origins::peer(&self.context.library, id).ok_or_else(none)
    }
}

#[tonic::async_trait]
impl v1::peers_server::Peers for PeersService {
    async fn list_peers(&self, _: Request<()>) -> Answer<v1::PeersResponse> {
        let list = self.peers().map(|peers| peers.list()).unwrap_or_default();
        Ok(Response::new(v1::PeersResponse {
            peers: list.into_iter().map(to_proto).collect(),
        }))
    }

    async fn get_peer(&self, request: Request<v1::PeerRequest>) -> Answer<v1::Peer> {
        let peer = self.peer(&request.into_inner().id)?;
        Ok(Response::new(to_proto(peer)))
    }

    type WatchPeersStream = Streamed<v1::Peer>;

    async fn watch_peers(&self, _: Request<()>) -> Answer<Self::WatchPeersStream> {
        let (sender, receiver) = mpsc::channel(PEERS_WAITING_MAX);
        let clusters = self.context.library.watch_peers();
        let stopping = self.context.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = sender.closed() => {}
                () = watch(clusters, &sender) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ping_peer(&self, request: Request<v1::PeerRequest>) -> Answer<v1::PingResponse> {
        let peer = self.peer(&request.into_inner().id)?;
        let Some(peers) = self.peers() else {
            return Err(Status::unavailable("this node is in no cluster"));
        };
        // Whatever keeps a peer from answering: now it does not.
        let rtt = peers.ping(peer.id).await;
        let rtt = rtt.map_err(|error| Status::unavailable(with_causes(&error)))?;
        Ok(Response::new(v1::PingResponse {
            rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX),
        }))
    }

    async fn locate(&self, request: Request<v1::LocateRequest>) -> Answer<v1::LocateResponse> {
        let path = request.into_inner().path;
        let library = self.context.library.clone();
        // It looks at the cache's disk.
        let located = tokio::task::spawn_blocking(move || library.locate(path.trim_matches('/')));
        let located = located
            .await
            .map_err(|_| Status::internal("the look into the cache ended in a panic"))?;
        let located = located.map_err(|error| status(&error))?;
        Ok(Response::new(located_to_proto(located)))
    }
}

/// Tells every peer, then each whose state changed, until the client goes; of each cluster in turn.
async fn watch(mut clusters: PeersChanges, sender: &mpsc::Sender<Result<v1::Peer, Status>>) {
    let mut peers = clusters.next().await;
    loop {
        let tell = async {
            match &peers {
                Some(peers) => watch_cluster(&**peers, sender).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tell => return,
            next = clusters.next() => peers = next,
        }
    }
}

async fn watch_cluster(peers: &dyn Peers, sender: &mpsc::Sender<Result<v1::Peer, Status>>) {
    let mut known: BTreeMap<NodeId, PeerStatus> = BTreeMap::new();
    let mut revision = 0;
    loop {
        for peer in news(&mut known, peers.list()) {
            if sender.send(Ok(to_proto(peer))).await.is_err() {
                return;
            }
        }
        revision = peers.changed(revision).await;
    }
}

/// Those of `list` that are not as they were `known`, which becomes what they are. Pure.
fn news(known: &mut BTreeMap<NodeId, PeerStatus>, list: Vec<PeerStatus>) -> Vec<PeerStatus> {
    let is_news = |peer: &&PeerStatus| known.get(&peer.id).is_none_or(|old| is_another(old, peer));
    let news = list.iter().filter(is_news).cloned().collect();
    *known = list.into_iter().map(|peer| (peer.id, peer)).collect();
    news
}

/// True if something differs that is not on the move all the time.
fn is_another(old: &PeerStatus, new: &PeerStatus) -> bool {
    let lasting = |peer: &PeerStatus| {
        (
            peer.name.clone(),
            peer.address,
            peer.found_by,
            peer.state,
            peer.version.clone(),
            peer.connected_since_unix,
            peer.last_error.clone(),
        )
    };
    lasting(old) != lasting(new)
}

fn to_proto(peer: PeerStatus) -> v1::Peer {
    let state = match peer.state {
        PeerState::Connecting => v1::PeerState::Connecting,
        PeerState::Connected => v1::PeerState::Connected,
        PeerState::Lost => v1::PeerState::Lost,
        PeerState::Demoted => v1::PeerState::Demoted,
    };
    v1::Peer {
        id: peer.id.to_string(),
        name: peer.name,
        address: peer
            .address
            .map_or_else(String::new, |address| address.to_string()),
        found_by: peer.found_by.as_str().to_owned(),
        state: state.into(),
        rtt_us: u64::try_from(peer.rtt.as_micros()).unwrap_or(u64::MAX),
        bytes_in: peer.bytes_in,
        bytes_out: peer.bytes_out,
        chunks_in: peer.chunks_in,
        chunks_out: peer.chunks_out,
        errors: peer.errors,
        version: peer.version,
        objects: peer.objects,
        connected_since_unix: peer.connected_since_unix,
        last_error: peer.last_error,
    }
}

fn located_to_proto(located: Located) -> v1::LocateResponse {
    let holder = |holder: Holder| v1::Holder {
        // This node has no id while it is in no cluster.
        peer_id: holder
            .node
            .map_or_else(String::new, |node| node.to_string()),
        ranges: holder
            .ranges
            .into_iter()
            .map(|range| v1::Range {
                offset: range.start,
                len: range.end.saturating_sub(range.start),
            })
            .collect(),
        complete: holder.is_complete,
        trust: holder.trust.as_str().to_owned(),
    };
    v1::LocateResponse {
        version_key: located.version.to_string(),
        size: located.size,
        holders: located.holders.into_iter().map(holder).collect(),
    }
}

#[cfg(test)]
mod tests;
