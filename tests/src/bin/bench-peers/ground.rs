//! Three nodes on one network: one that holds an album, one of its cluster that plays it, and one that is
//! in no cluster.

use std::path::PathBuf;
use std::time::Duration;

use musicfs_tests::bench::drop_caches;
use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::lab::Lab;
use musicfs_tests::remote::{pairs_in, write_album};
use musicfs_tests::servers::proxy::{Proxy, Shape};
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, BUCKET, SECRET_KEY};
use musicfs_tests::{knob, tree, wait_until};

/// Who holds the album, who plays it from there, and who plays it from the origin.
pub(crate) const HOLDER: usize = 1;
pub(crate) const PLAYER: usize = 2;
pub(crate) const ALONE: usize = 3;
/// How far away the origin is in the comparison of first bytes, each way.
const FAR: Duration = Duration::from_millis(20);

/// The fields go in this order: who serves goes last.
pub(crate) struct Ground {
    daemons: Vec<Daemon>,
    line: Proxy,
    _s3: S3Server,
    library: Home,
    pub(crate) lab: Lab,
}

impl Ground {
    /// Makes the network and the album, and lets the first node fetch it.
    pub(crate) fn new() -> Self {
        let lab = Lab::new(3);
        let library = Home::new();
        let tracks = usize::try_from(knob("MUSICFS_BENCH_TRACKS", 12)).unwrap();
        let megabytes = knob("MUSICFS_BENCH_TRACK_MB", 10) * tracks as u64;
        write_album(&library.origin().join("album"), tracks, megabytes);
        let s3 = S3Server::start_on(lab.servers());
        for file in tree::files(&library.origin()) {
            s3.put_file(&file, &library.origin().join(&file));
        }
        let line = Proxy::start_on(lab.servers(), s3.address());
        lab.cli(HOLDER, &["--json", "cluster", "init"]);
        lab.cli(PLAYER, &["--json", "cluster", "join", &lab.join_code()]);
        let url = format!("s3://{BUCKET}?endpoint=http://{}", line.address());
        let start = |node| mount(lab.node(node), &url);
        let ground = Self {
            daemons: [HOLDER, PLAYER, ALONE].map(start).into(),
            line,
            _s3: s3,
            library,
            lab,
        };
        ground
            .daemons
            .iter()
            .for_each(|daemon| daemon.wait_scanned(1));
        ground.play_on_holder();
        ground
    }

    /// The album as a node shows it.
    pub(crate) fn files(&self, node: usize) -> Vec<PathBuf> {
        let pairs = pairs_in(self.lab.node(node), &self.library.origin());
        pairs.into_iter().map(|(file, _)| file).collect()
    }

    /// How large the album is.
    pub(crate) fn bytes(&self) -> u64 {
        let files = self.files(HOLDER);
        files
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum()
    }

    /// The daemon of a node.
    pub(crate) fn daemon(&self, node: usize) -> &Daemon {
        &self.daemons[node - 1]
    }

    /// Lets a node forget all content, and the kernel too.
    pub(crate) fn forget(&self, node: usize) {
        self.lab.cli(node, &["--json", "cache", "clear"]);
        drop_caches();
    }

    /// Moves the origin away, or back.
    pub(crate) fn set_far(&self, is_far: bool) {
        self.line.set_shape(Shape {
            rate_bytes_per_s: None,
            delay_each_way: if is_far { FAR } else { Duration::ZERO },
        });
    }

    /// Bytes that came from the origin so far.
    pub(crate) fn origin_traffic(&self) -> u64 {
        self.line.bytes_down()
    }

    /// Lets the holder fetch everything, and waits until the player knows of it.
    fn play_on_holder(&self) {
        musicfs_tests::bench::read_all(&self.files(HOLDER));
        let holder = self.lab.node_id(HOLDER);
        for file in self.files(PLAYER) {
            let path = file.strip_prefix(self.lab.node(PLAYER).mount_point());
            let locate = ["--json", "locate", path.unwrap().to_str().unwrap()];
            wait_until("the announcement", || {
                let located = self.lab.cli(PLAYER, &locate);
                let holders = located["holders"].as_array().unwrap();
                holders
                    .iter()
                    .any(|entry| entry["peer_id"] == holder.as_str() && entry["complete"] == true)
            });
        }
    }
}

fn mount(home: &Home, url: &str) -> Daemon {
    let access = format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}");
    let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
    let args = ["--origin", url, "--cache-free-min", "0"];
    let daemon = home.start_under(&["env", &access, &secret], &home.mount_point(), &args);
    daemon.wait_ready();
    daemon
}
