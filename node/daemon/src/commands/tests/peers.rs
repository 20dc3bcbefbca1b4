//! What the commands about peers and events ask a daemon.

use musicfs_proto::v1::peers_server::Peers;

use super::*;

#[tonic::async_trait]
impl Peers for Scripted {
    async fn list_peers(&self, _: Request<()>) -> Answer<v1::PeersResponse> {
        self.note("list".into());
        let peers = self.peers.clone();
        Ok(Response::new(v1::PeersResponse { peers }))
    }

    async fn get_peer(&self, _: Request<v1::PeerRequest>) -> Answer<v1::Peer> {
        unused()
    }

    type WatchPeersStream = Streamed<v1::Peer>;

    async fn watch_peers(&self, _: Request<()>) -> Answer<Self::WatchPeersStream> {
        unused()
    }

    async fn ping_peer(&self, request: Request<v1::PeerRequest>) -> Answer<v1::PingResponse> {
        let id = request.into_inner().id;
        self.note(format!("ping {id}"));
        match id.as_str() {
            "aa11" => Ok(Response::new(v1::PingResponse { rtt_us: 1 })),
            _ => Err(Status::unavailable("reach peer: the connection is gone")),
        }
    }

    async fn locate(&self, request: Request<v1::LocateRequest>) -> Answer<v1::LocateResponse> {
        let path = request.into_inner().path;
        self.note(format!("locate {path:?}"));
        match path.as_str() {
            "A/B" => Ok(Response::new(Default::default())),
            _ => Err(Status::not_found("find \"C\" in the library")),
        }
    }
}

fn peer(id: &str, name: &str) -> v1::Peer {
    v1::Peer {
        id: id.into(),
        name: name.into(),
        ..v1::Peer::default()
    }
}

#[tokio::test]
async fn every_command_about_peers_asks_for_what_was_typed() {
    let daemon = Scripted {
        peers: vec![peer("aa11", "den"), peer("bb22", "attic")],
        ..Scripted::default()
    };
    let (_dir, context) = listening(&daemon);
    for (args, expect) in [
        (&["peers", "list"][..], &["list"][..]),
        (&["peers", "show", "bb"], &["list"]),
        (&["peers", "ping", "a"], &["list", "ping aa11"]),
        (&["peers", "ping", "den"], &["list", "ping aa11"]),
        (&["locate", "A/B"], &["locate \"A/B\"", "list"]),
        (
            &["locate", "/nonexistent/mnt/A/B"],
            &["locate \"A/B\"", "list"],
        ),
        (&["events"], &["events [] None"]),
        (
            &["events", "--type=file_added", "--type=sync_completed"],
            &["events [EVENT_TYPE_FILE_ADDED, EVENT_TYPE_SYNC_COMPLETED] None"],
        ),
        (&["events", "--origin", "nas"], &["events [] Some(\"nas\")"]),
    ] {
        play(&context, args).await.unwrap();
        let asked = std::mem::take(&mut *daemon.asked.lock().unwrap());
        assert_eq!(asked, expect, "{args:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_found_or_reached_makes_a_command_fail() {
    let daemon = Scripted {
        peers: vec![peer("aa11", "den"), peer("ab22", "attic")],
        ..Scripted::default()
    };
    let (_dir, context) = listening(&daemon);
    for (args, expect) in [
        (
            &["peers", "show", "kitchen"][..],
            "musicfs: cannot find peer \"kitchen\". `musicfs peers list`",
        ),
        (
            &["peers", "ping", "a"],
            "musicfs: cannot find peer \"a\": it may be any of aa11, ab22. give more of its id",
        ),
        (
            &["peers", "ping", "attic"],
            "musicfs: cannot ping the peer: reach peer: the connection is gone",
        ),
        (
            &["locate", "C"],
            "musicfs: cannot locate the file: find \"C\" in the library",
        ),
        (
            &["locate", "/elsewhere/A"],
            "musicfs: cannot find /elsewhere/A below",
        ),
    ] {
        let error = play(&context, args).await.unwrap_err();
        assert_eq!(error.exit_code(), 1, "{args:?}: {error}");
        let line = error.line();
        assert!(line.starts_with(expect), "{args:?}: {line}");
    }
}
