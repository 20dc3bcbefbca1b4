//! A share whose server stops to answer: sshfs, with the real SFTP server behind it stopped.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

use musicfs_core::origin::{Depth, Origin, OriginFile};
use musicfs_origins::MountedOrigin;
use rustix::process::{Pid, Signal};

use super::*;

/// Long enough for a busy machine to answer, short enough to wait for four times.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long anything may take that must come about.
const LIMIT: Duration = Duration::from_secs(60);

/// Where distributions keep the server that sshd starts.
const SFTP_SERVERS: [&str; 3] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

/// As many as the threads of an origin.
const THREADS: usize = 8;

/// An sshfs mount of a directory. Dropping it thaws the share and takes it away.
struct Share {
    base: tempfile::TempDir,
    sshfs: Child,
}

impl Share {
    /// Mounts a directory that holds `f.flac`.
    fn mount() -> Self {
        let base = tempfile::tempdir().unwrap();
        let served = base.path().join("served");
        put(&served, "f.flac", vec![b'm'; 4 << 20]);
        put(&served, "a/1.mp3", "x");
        std::fs::create_dir(base.path().join("mnt")).unwrap();
        // sshfs speaks to whatever this starts: no network, no keys.
        let server = SFTP_SERVERS.iter().find(|path| Path::new(path).exists());
        let server = server.expect("OpenSSH's sftp-server is installed");
        let command = base.path().join("server.sh");
        let mut script = std::fs::File::create(&command).unwrap();
        writeln!(script, "#!/bin/sh\nexec {server}").unwrap();
        drop(script);
        std::fs::set_permissions(&command, PermissionsExt::from_mode(0o755)).unwrap();
        // No cache: every call asks the server.
        let options = format!(
            "ssh_command={},attr_timeout=0,entry_timeout=0,dir_cache=no,no_readahead",
            command.display()
        );
        let sshfs = Command::new("sshfs")
            .args(["-f", "-o", &options])
            .arg(format!("share:{}", served.display()))
            .arg(base.path().join("mnt"))
            .stdin(Stdio::null())
            .spawn()
            .expect("sshfs is installed");
        let share = Self { base, sshfs };
        let device = std::fs::metadata(share.base.path()).unwrap().dev();
        let start = Instant::now();
        while std::fs::metadata(share.root()).map_or(device, |stat| stat.dev()) == device {
            assert!(start.elapsed() < LIMIT, "sshfs does not mount");
            std::thread::yield_now();
        }
        share
    }

    fn root(&self) -> PathBuf {
        self.base.path().join("mnt")
    }

    fn origin(&self, id: &str) -> MountedOrigin {
        MountedOrigin::with_patience(config(id, &self.root()), PATIENCE)
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_child(&self.sshfs);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// From here on every call on the share hangs.
    fn freeze(&self) {
        self.send(Signal::STOP);
        let status = format!("/proc/{}/stat", self.sshfs.id());
        let start = Instant::now();
        while !std::fs::read_to_string(&status).unwrap().contains(") T ") {
            assert!(start.elapsed() < LIMIT, "sshfs does not stop");
            std::thread::yield_now();
        }
    }

    fn thaw(&self) {
        self.send(Signal::CONT);
    }

    /// Descriptors of this process that lie on the share.
    fn open_count(&self) -> usize {
        let root = self.root();
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        links
            .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
            .filter(|target| target.starts_with(&root))
            .count()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Whatever failed before: nothing here may panic, or leave a mount behind.
        let mut unmount = Command::new("fusermount3");
        let _ = unmount.args(["-u", "-z"]).arg(self.root()).status();
        let _ = self.sshfs.kill();
        let _ = self.sshfs.wait();
    }
}

/// Threads of this process that belong to the origin `id`.
fn threads_count(id: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = format!("mnt {id}\n");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| *comm == name)
        .count()
}

/// Waits until `holds` does.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < LIMIT, "{what}");
        tokio::task::yield_now().await;
    }
}

/// What each operation fails with, as a short name.
fn outcome<T>(result: Result<T, OriginError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(OriginError::TimedOut { after, .. }) if after == PATIENCE => "timed out",
        Err(OriginError::Io { source, .. })
            if source.to_string() == "the mount does not answer" =>
        {
            "no answer"
        }
        Err(error) => panic!("{error:?}"),
    }
}

async fn open(origin: &MountedOrigin) -> Result<Box<dyn OriginFile>, OriginError> {
    origin.open(&path("f.flac"), &any_version()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_hangs_holds_nobody_up_and_is_used_again_when_it_answers() {
    let share = Share::mount();
    let origin = share.origin("frozen");
    let file = open(&origin).await.unwrap();
    assert_eq!(file.read_at(0, 2).await.unwrap(), "mm");
    let key = origin.key();
    assert!(key.is_some());

    share.freeze();
    let list = async |depth| outcome(origin.list(&path(""), depth).next().await);
    let read = async |offset| outcome(file.read_at(offset, 1).await);
    let open_it = async || outcome(open(&origin).await);
    let check = async || outcome(origin.check().await);
    let ends = tokio::join!(
        list(Depth::One),
        list(Depth::All),
        read(1 << 20),
        read(2 << 20),
        open_it(),
        open_it(),
        check(),
        check(),
    );
    assert_eq!(<[&str; THREADS]>::from(ends), ["timed out"; THREADS]);
    // All threads hang now: nobody waits for them.
    for _ in 0..100 {
        assert_eq!(check().await, "no answer");
        assert_eq!(read(0).await, "no answer");
        assert_eq!(list(Depth::All).await, "no answer");
    }
    assert_eq!(threads_count("frozen"), THREADS);
    assert!(file.is_unchanged(), "asking this may not touch the share");
    assert_eq!(origin.key(), key);
    // Nor may closing: it asks the server, which would end this test here.
    drop(file);

    share.thaw();
    eventually("the share answers again", async || {
        origin.check().await.is_ok()
    })
    .await;
    let file = open(&origin).await.unwrap();
    assert_eq!(file.read_at(3 << 20, 3).await.unwrap(), "mmm");
    let listings = collect(origin.list(&path(""), Depth::All)).await.unwrap();
    assert_eq!(listings.len(), 2);
    assert!(threads_count("frozen") <= THREADS);

    drop(file);
    drop(origin);
    eventually("descriptors are closed", async || share.open_count() == 0).await;
    eventually("threads end", async || threads_count("frozen") == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn making_an_origin_of_a_share_that_hangs_waits_for_nothing() {
    let share = Share::mount();
    share.freeze();
    let root = share.root();
    let deep = MountedConfig {
        root: root.join("a"),
        excluded: vec![root.join("a/mnt")],
        ..config("still", &root)
    };
    let origin = MountedOrigin::with_patience(deep, PATIENCE);
    assert_eq!(origin.key(), None);
    assert_eq!(threads_count("still"), 0, "nothing was asked for");
    assert_eq!(outcome(origin.check().await), "timed out");
    assert_eq!(origin.key(), None);
    // One thread hangs; the others are there for the next.
    assert_eq!(outcome(origin.check().await), "timed out");
    assert_eq!(threads_count("still"), 2);

    share.thaw();
    eventually("the share answers", async || origin.check().await.is_ok()).await;
    assert!(origin.key().is_some());
    let listings = collect(origin.list(&path(""), Depth::All)).await.unwrap();
    assert_eq!(listings[0].files[0].name, b"1.mp3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_was_not_waited_for_never_ends_as_complete() {
    let share = Share::mount();
    let origin = share.origin("left");
    share.freeze();
    let mut given_up = origin.list(&path(""), Depth::All);
    let mut timed_out = origin.list(&path(""), Depth::All);
    {
        let mut next = given_up.next();
        let polled = std::future::poll_fn(|ctx| Poll::Ready(next.as_mut().poll(ctx).is_ready()));
        assert!(!polled.await);
    }
    assert_eq!(outcome(timed_out.next().await), "timed out");
    share.thaw();
    eventually("the share answers again", async || {
        origin.check().await.is_ok()
    })
    .await;
    for stream in [&mut given_up, &mut timed_out] {
        let error = stream.next().await.unwrap_err();
        assert!(matches!(error, OriginError::Io { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_the_queue_holds_fail_at_once() {
    let share = Share::mount();
    let origin = share.origin("full");
    origin.check().await.unwrap();
    share.freeze();
    // Eight threads and sixty-four places: of a hundred calls the rest has no chance.
    let calls: Vec<_> = (0..100).map(|_| origin.check()).collect();
    let mut tasks = Vec::new();
    for mut call in calls {
        // Polled in order: each call starts here.
        let mut first = None;
        std::future::poll_fn(|ctx| {
            if let Poll::Ready(result) = call.as_mut().poll(ctx) {
                first = Some(outcome(result));
            }
            Poll::Ready(())
        })
        .await;
        tasks.push((first, call));
    }
    let refused = tasks
        .iter()
        .filter(|(first, _)| *first == Some("no answer"));
    let refused = refused.count();
    // A thread may not have taken its first call yet; an idle one takes no place in the queue.
    assert!(
        (100 - 64 - THREADS..=100 - 64).contains(&refused),
        "{refused}"
    );
    for (first, call) in tasks {
        if first.is_none() {
            assert_eq!(outcome(call.await), "timed out");
        }
    }
    share.thaw();
    eventually("the share answers again", async || {
        origin.check().await.is_ok()
    })
    .await;
}
