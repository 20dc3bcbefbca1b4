//! What commands ask a daemon, and what they make of its answers.

mod peers;

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use musicfs_proto::v1;
use musicfs_proto::v1::music_fs_server::{MusicFs, MusicFsServer};
use musicfs_proto::v1::peers_server::PeersServer;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// A daemon that writes down what it is asked, and answers what a test wants.
#[derive(Clone, Default)]
struct Scripted {
    asked: Arc<Mutex<Vec<String>>>,
    prefetch: Vec<v1::PrefetchProgress>,
    verify: Vec<v1::VerifyProgress>,
    peers: Vec<v1::Peer>,
}

impl Scripted {
    fn note(&self, request: String) {
        self.asked.lock().unwrap().push(request);
    }
}

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("no command of these tests asks this"))
}

fn streamed<T: Send + 'static>(messages: Vec<T>) -> Answer<Streamed<T>> {
    let messages = messages.into_iter().map(Ok);
    Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
}

#[tonic::async_trait]
impl MusicFs for Scripted {
    async fn get_status(&self, _: Request<()>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(v1::StatusResponse {
            mount_point: "/nonexistent/mnt".into(),
            ..v1::StatusResponse::default()
        }))
    }

    async fn get_cache_stats(&self, _: Request<()>) -> Answer<v1::CacheStats> {
        self.note("stats".into());
        Ok(Response::new(Default::default()))
    }

    async fn clear_cache(
        &self,
        request: Request<v1::ClearCacheRequest>,
    ) -> Answer<v1::ClearCacheResponse> {
        let request = request.into_inner();
        let tier = request.tier().as_str_name();
        self.note(format!(
            "clear {:?} {tier} {}",
            request.origin_id, request.dry_run
        ));
        Ok(Response::new(Default::default()))
    }

    type PrefetchStream = Streamed<v1::PrefetchProgress>;

    async fn prefetch(
        &self,
        request: Request<v1::PrefetchRequest>,
    ) -> Answer<Self::PrefetchStream> {
        let request = request.into_inner();
        let strategy = request.strategy().as_str_name();
        self.note(format!("prefetch {:?} {strategy}", request.paths));
        streamed(self.prefetch.clone())
    }

    async fn pin(&self, request: Request<v1::PinRequest>) -> Answer<v1::PinResponse> {
        self.note(format!("pin {:?}", request.into_inner().paths));
        Ok(Response::new(Default::default()))
    }

    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Answer<v1::UnpinResponse> {
        self.note(format!("unpin {:?}", request.into_inner().paths));
        Ok(Response::new(Default::default()))
    }

    async fn list_pins(&self, _: Request<()>) -> Answer<v1::PinsResponse> {
        self.note("pins".into());
        Ok(Response::new(Default::default()))
    }

    type VerifyStream = Streamed<v1::VerifyProgress>;

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<Self::VerifyStream> {
        let request = request.into_inner();
        self.note(format!(
            "verify {:?} {}",
            request.origin_id, request.dry_run
        ));
        streamed(self.verify.clone())
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Answer<()> {
        unused()
    }

    async fn list_origins(&self, _: Request<()>) -> Answer<v1::OriginsResponse> {
        unused()
    }

    async fn get_origin_health(&self, _: Request<v1::OriginRequest>) -> Answer<v1::OriginHealth> {
        unused()
    }

    type RescanOriginStream = Streamed<v1::SyncProgress>;

    async fn rescan_origin(
        &self,
        _: Request<v1::OriginRequest>,
    ) -> Answer<Self::RescanOriginStream> {
        unused()
    }

    async fn search(&self, _: Request<v1::SearchRequest>) -> Answer<v1::SearchResponse> {
        unused()
    }

    type SearchStreamStream = Streamed<v1::SearchResult>;

    async fn search_stream(
        &self,
        _: Request<v1::SearchRequest>,
    ) -> Answer<Self::SearchStreamStream> {
        unused()
    }

    type SubscribeEventsStream = Streamed<v1::Event>;

    async fn subscribe_events(
        &self,
        request: Request<v1::EventFilter>,
    ) -> Answer<Self::SubscribeEventsStream> {
        let filter = request.into_inner();
        let types: Vec<_> = filter.types().map(|kind| kind.as_str_name()).collect();
        self.note(format!(
            "events [{}] {:?}",
            types.join(", "),
            filter.origin_id
        ));
        streamed(vec![v1::Event::default()])
    }

    async fn reload(&self, _: Request<()>) -> Answer<v1::ReloadResponse> {
        unused()
    }

    async fn forget_origin(
        &self,
        _: Request<v1::OriginRequest>,
    ) -> Answer<v1::ForgetOriginResponse> {
        unused()
    }
}

/// A daemon that listens, and what a command needs to find it.
fn listening(daemon: &Scripted) -> (TempDir, Context) {
    let dir = tempfile::tempdir().unwrap();
    let context = Context {
        environment: Environment {
            uid: 1000,
            home: Some(dir.path().to_owned()),
            runtime_dir: Some(dir.path().to_owned()),
            ..Environment::default()
        },
        name: "default".into(),
        config: None,
        format: Format::Json,
    };
    let socket = context.paths().unwrap().socket;
    std::fs::create_dir_all(socket.parent().unwrap_or(Path::new("/"))).unwrap();
    let incoming = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let service = MusicFsServer::new(daemon.clone());
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .add_service(PeersServer::new(daemon.clone()))
            .serve_with_incoming(incoming),
    );
    (dir, context)
}

/// Does what `args` say, as [`run`] does.
async fn play(context: &Context, args: &[&str]) -> Result<(), Error> {
    match cli::parse(["musicfs"].iter().chain(args))?.command {
        Command::Cache(command) => cache::run(context, &command).await,
        Command::Prefetch(args) => prefetch::run(context, &args).await,
        Command::Pin(args) => pin::pin(context, &args).await,
        Command::Unpin(args) => pin::unpin(context, &args).await,
        Command::Pins => pin::list(context).await,
        Command::Verify(args) => verify::run(context, &args).await,
        Command::Events(args) => events::run(context, &args).await,
        Command::Peers(command) => super::peers::run(context, &command).await,
        Command::Locate(args) => super::peers::locate(context, &args).await,
        other => panic!("{other:?} is not among those tested here"),
    }
}

#[tokio::test]
async fn every_command_of_the_cache_asks_for_what_was_typed() {
    let daemon = Scripted {
        verify: vec![v1::VerifyProgress {
            complete: true,
            ..v1::VerifyProgress::default()
        }],
        ..Scripted::default()
    };
    let (_dir, context) = listening(&daemon);
    for (args, expect) in [
        (&["cache", "stats"][..], "stats"),
        (&["cache", "clear"], "clear None CACHE_TIER_ALL false"),
        (
            &[
                "cache",
                "clear",
                "--origin=nas",
                "--tier=headers",
                "--dry-run",
            ],
            "clear Some(\"nas\") CACHE_TIER_HEADERS true",
        ),
        (
            &["prefetch", "/nonexistent/mnt/A/B", "./C/", "."],
            "prefetch [\"A/B\", \"C\", \"\"] PREFETCH_FULL",
        ),
        (
            &["prefetch", "--full", "A"],
            "prefetch [\"A\"] PREFETCH_FULL",
        ),
        (
            &["prefetch", "--headers", "A"],
            "prefetch [\"A\"] PREFETCH_HEADERS",
        ),
        (
            &["prefetch", "--metadata-only", "A"],
            "prefetch [\"A\"] PREFETCH_METADATA_ONLY",
        ),
        (&["pin", "/nonexistent/mnt/A"], "pin [\"A\"]"),
        (&["unpin", "A", "B"], "unpin [\"A\", \"B\"]"),
        (&["pins"], "pins"),
        (&["verify"], "verify None false"),
        (
            &["verify", "--origin", "nas", "--dry-run"],
            "verify Some(\"nas\") true",
        ),
    ] {
        play(&context, args).await.unwrap();
        let asked = std::mem::take(&mut *daemon.asked.lock().unwrap());
        assert_eq!(asked, [expect], "{args:?}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_mount_or_not_in_this_version_is_not_asked_for() {
    let daemon = Scripted::default();
    let (_dir, context) = listening(&daemon);
    for command in ["prefetch", "pin", "unpin"] {
        let error = play(&context, &[command, "/elsewhere/A"])
            .await
            .unwrap_err();
        assert!(matches!(error, Error::OutsideMount { .. }), "{error}");
        let error = play(&context, &[command, "--query", "artist:x"])
            .await
            .unwrap_err();
        let line = error.line();
        assert!(line.contains("search is not in this version"), "{line}");
    }
    assert_eq!(*daemon.asked.lock().unwrap(), [] as [String; 0]);
}

#[tokio::test]
async fn a_failed_file_and_damage_that_stays_make_a_command_fail() {
    let progress = |complete, error: Option<&str>| v1::PrefetchProgress {
        path: "A".into(),
        complete,
        error: error.map(Into::into),
        ..v1::PrefetchProgress::default()
    };
    let checked = |complete, blocks_corrupt| v1::VerifyProgress {
        complete,
        blocks_corrupt,
        ..v1::VerifyProgress::default()
    };
    let daemon = Scripted {
        prefetch: vec![
            progress(false, None),
            progress(true, Some("origin nas is away")),
        ],
        verify: vec![checked(false, 0), checked(true, 1)],
        ..Scripted::default()
    };
    let (_dir, context) = listening(&daemon);
    let error = play(&context, &["prefetch", "A"]).await.unwrap_err();
    assert_eq!(error.to_string(), "prefetch 1 of 1 files");
    let error = play(&context, &["verify"]).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { blocks: 1 }), "{error}");
    // A stream that ends before its last message is no success.
    let daemon = Scripted {
        verify: vec![checked(false, 0)],
        ..Scripted::default()
    };
    let (_dir, context) = listening(&daemon);
    let error = play(&context, &["verify"]).await.unwrap_err();
    assert!(matches!(error, Error::Verify { .. }), "{error}");
}

/// Does what `args` say to the keys in `dir`, as [`run`] does.
fn cluster(dir: &Path, args: &[&str]) -> Result<(), Error> {
    let context = Context {
        environment: Environment {
            uid: 1000,
            home: Some(dir.to_owned()),
            ..Environment::default()
        },
        name: "default".into(),
        config: None,
        format: Format::Json,
    };
    let args = ["musicfs", "cluster"].iter().chain(args);
    match cli::parse(args)?.command {
        Command::Cluster(command) => block_on(cluster::run(&context, &command)),
        other => panic!("{other:?} is not of the cluster"),
    }
}

/// Who the node of `dir` is.
fn identity(dir: &Path) -> musicfs_peer::Identity {
    let state = dir.join(".local/state/musicfs/default");
    musicfs_peer::Identity::load(&state).unwrap().unwrap()
}

#[test]
fn a_node_joins_by_the_code_of_another_however_it_is_typed() {
    let first = tempfile::tempdir().unwrap();
    cluster(first.path(), &["init"]).unwrap();
    let founder = identity(first.path());
    let code = founder.join_code().reveal();
    let groups: Vec<String> = code.split('-').map(str::to_lowercase).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    for typed in [vec![code.as_str()], groups] {
        let second = tempfile::tempdir().unwrap();
        cluster(second.path(), &[&["join"], &typed[..]].concat()).unwrap();
        let joined = identity(second.path());
        assert_eq!(joined.fingerprint(), founder.fingerprint());
        assert_ne!(joined.node_id(), founder.node_id());
    }
}

#[test]
fn a_mistyped_code_is_told_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let code = "9G64S-36D1N-6RVKG-EB1C9-HP8SB-6T57H";
    for (typed, expect) in [
        (
            code.replace("EB1C9", "EB1C8"),
            "it is mistyped, perhaps in group 4",
        ),
        (
            code.replace("EB1C9", "BE1C9"),
            "it is mistyped, perhaps in group 4",
        ),
        (
            code.replace("-6T57H", ""),
            "it has 25 letters and digits instead of 30",
        ),
        (
            code.replace("6T57H", "6T5U!"),
            "character 29 is none that a code has",
        ),
    ] {
        let error = cluster(dir.path(), &["join", &typed]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let line = error.line();
        assert!(line.contains(expect) && line.contains(". "), "{line}");
        let told = format!("{line} {error:?}");
        assert!(!told.contains("9G64S") && !told.contains("EB1C"), "{told}");
    }
    assert!(!dir.path().join(".local").exists(), "something was made");
}

#[test]
fn what_cannot_be_done_with_a_cluster_says_what_can() {
    let dir = tempfile::tempdir().unwrap();
    let check = |args: &[&str], expect: &str| {
        let error = cluster(dir.path(), args).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        let line = error.line();
        assert!(line.contains(expect), "{line}");
    };
    cluster(dir.path(), &["show"]).unwrap();
    for args in [&["leave"][..], &["rotate"], &["show", "--join-code"]] {
        check(
            args,
            "this node is in no cluster. make one with `musicfs cluster init`",
        );
    }
    cluster(dir.path(), &["init"]).unwrap();
    let before = identity(dir.path());
    check(
        &["init"],
        "leave that one first with `musicfs cluster leave`",
    );
    check(&["join", "9G64S-36D1N-6RVKG-EB1C9-HP8SB-6T57H"], "already");
    cluster(dir.path(), &["rotate"]).unwrap();
    let after = identity(dir.path());
    assert_ne!(after.fingerprint(), before.fingerprint());
    assert_eq!(after.node_id(), before.node_id());
    cluster(dir.path(), &["leave"]).unwrap();
    check(&["leave"], "no cluster");
}
