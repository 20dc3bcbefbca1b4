//! The systems that are compared: how each is mounted, unmounted and emptied.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use musicfs_tests::bench::{Family, drop_caches};
use musicfs_tests::daemon::{Home, is_mounted};
use musicfs_tests::servers::s3::program;
use musicfs_tests::servers::s3_client::{ACCESS_KEY, BUCKET, SECRET_KEY};
use musicfs_tests::servers::sftp::USER;
use musicfs_tests::{sh, sh_output, tree, wait_until};

use crate::ground::{Ground, PREFIX};

/// How long a mount may take, the slowest over a first index of everything.
const MOUNT_WAIT_MAX: Duration = Duration::from_secs(90);

/// One way to see the library.
pub(crate) struct System {
    pub(crate) name: &'static str,
    /// The mount point, or the plain directory.
    root: PathBuf,
    cache: PathBuf,
    /// `None`: nothing is mounted.
    program: Option<Program>,
    /// Where it shows each file, if not under its real path.
    places: BTreeMap<String, String>,
    /// What its log holds once it has done what it does at every start.
    settled: Option<&'static str>,
    /// Ours has its directories there.
    _home: Option<Home>,
}

/// A program that mounts and stays in the foreground.
struct Program {
    words: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// How a peer is mounted: at the first path, with what it caches at the second.
type Peer = fn(&Ground, &Path, &Path) -> Program;

/// A system that is mounted. Dropping it unmounts.
pub(crate) struct Mounted {
    root: PathBuf,
    child: Option<Child>,
    /// From the start of the program to the first entry of the root.
    pub(crate) took: Duration,
}

impl System {
    /// All that are compared; musicfs is not indexed yet.
    pub(crate) fn all(ground: &Ground) -> Vec<Self> {
        let mut all = vec![
            Self {
                name: "ext4",
                root: ground.origin.clone(),
                cache: ground.path("nothing"),
                program: None,
                places: BTreeMap::new(),
                settled: None,
                _home: None,
            },
            musicfs("musicfs S3", &s3_url(ground)),
            musicfs("musicfs SFTP", &sftp_url(ground)),
        ];
        let peers: [(&'static str, Peer); 5] = [
            ("rclone S3", |ground, root, cache| {
                rclone(ground, "s3", root, cache)
            }),
            ("rclone SFTP", |ground, root, cache| {
                rclone(ground, "sftp", root, cache)
            }),
            ("sshfs", sshfs),
            ("s3fs", s3fs),
            ("juicefs", juicefs),
        ];
        for (name, program) in peers {
            let dir = name.replace(' ', "-");
            let (root, cache) = (
                ground.path(&format!("{dir}-mnt")),
                ground.path(&format!("{dir}-cache")),
            );
            fs::create_dir(&root).unwrap();
            let program = program(ground, &root, &cache);
            all.push(Self {
                name,
                root,
                cache,
                program: Some(program),
                places: BTreeMap::new(),
                settled: None,
                _home: None,
            });
        }
        all
    }

    /// True for the one that is measured against the others.
    pub(crate) fn is_ours(&self) -> bool {
        self.settled.is_some()
    }

    /// True if nothing is mounted.
    pub(crate) fn is_plain(&self) -> bool {
        self.program.is_none()
    }

    /// Where it shows a file.
    pub(crate) fn path(&self, real: &str) -> PathBuf {
        self.root
            .join(self.places.get(real).map_or(real, String::as_str))
    }

    /// Where it shows some files.
    pub(crate) fn paths(&self, real: &[String]) -> Vec<PathBuf> {
        real.iter().map(|file| self.path(file)).collect()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Empties its cache, and mounts it.
    pub(crate) fn mount_empty(&self) -> Mounted {
        if !self.is_plain() {
            let _ = fs::remove_dir_all(&self.cache);
            fs::create_dir(&self.cache).unwrap();
        }
        drop_caches();
        self.mount()
    }

    /// Mounts it with the cache that it had after its first index.
    pub(crate) fn mount_indexed(&self) -> Mounted {
        let _ = fs::remove_dir_all(&self.cache);
        sh(&format!("cp -a {:?} {:?}", self.indexed(), self.cache));
        drop_caches();
        self.mount()
    }

    /// Has ours index everything, and keeps what is in its cache then. How long that took.
    pub(crate) fn index(&mut self) -> Duration {
        let started = Instant::now();
        let mounted = self.mount();
        let took = started.elapsed();
        let real = tree::real_paths(&self.root).into_iter();
        self.places = real.map(|(place, real)| (real, place)).collect();
        drop(mounted);
        sh(&format!("cp -a {:?} {:?}", self.cache, self.indexed()));
        took
    }

    /// Mounts it, and waits until it has settled.
    pub(crate) fn mount(&self) -> Mounted {
        let Some(program) = &self.program else {
            return Mounted {
                root: self.root.clone(),
                child: None,
                took: Duration::ZERO,
            };
        };
        let log = self.root.with_extension("log");
        let output = File::create(&log).unwrap();
        let mut command = Command::new(&program.words[0]);
        command
            .args(&program.words[1..])
            .envs(program.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let started = Instant::now();
        let mut mounted = Mounted {
            root: self.root.clone(),
            child: Some(command.spawn().unwrap()),
            took: Duration::ZERO,
        };
        let log = || fs::read_to_string(&log).unwrap_or_default();
        wait(self.name, &log, || is_mounted(&self.root));
        wait(self.name, &log, || {
            let first = fs::read_dir(&self.root).map(|mut entries| entries.next().is_some());
            // An index that is being made for the first time shows nothing yet.
            first.unwrap_or(false) || (self.is_ours() && self.places.is_empty())
        });
        mounted.took = started.elapsed();
        if let Some(text) = self.settled {
            wait(self.name, &log, || log().contains(text));
        }
        mounted
    }

    fn indexed(&self) -> PathBuf {
        self.cache.with_extension("indexed")
    }
}

impl Mounted {
    /// The processes that serve it.
    pub(crate) fn family(&self) -> Option<Family> {
        self.child.as_ref().map(|child| Family::of(child.id()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Whoever still reads ahead keeps it busy for a moment.
        let unmount = || {
            sh_output(&format!("fusermount3 -u {:?}", self.root))
                .status
                .success()
        };
        let ended = |child: &mut Child| child.try_wait().unwrap().is_some();
        wait_until("the unmount", || unmount() || !is_mounted(&self.root));
        wait_until("the end of a mount's program", || ended(&mut child));
    }
}

fn wait(name: &str, log: &dyn Fn() -> String, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < MOUNT_WAIT_MAX,
            "{name} does not come up:\n{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn s3_url(ground: &Ground) -> String {
    format!(
        "s3://{BUCKET}/{PREFIX}?endpoint=http://{}",
        ground.s3_line.address()
    )
}

fn sftp_url(ground: &Ground) -> String {
    format!(
        "sftp://{USER}@127.0.0.1:{}{}?known_hosts={}&key_file={}",
        ground.sftp_line.port(),
        ground.origin.display(),
        ground.sftp.known_hosts().display(),
        ground.sftp.key_file().display()
    )
}

fn musicfs(name: &'static str, url: &str) -> System {
    let home = Home::new();
    let root = home.mount_point();
    let cache = home.path("cache");
    let args = ["mount", root.to_str().unwrap(), "--origin", url];
    let command = home.command(&args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut env: Vec<(OsString, OsString)> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    env.push(("AWS_ACCESS_KEY_ID".into(), ACCESS_KEY.into()));
    env.push(("AWS_SECRET_ACCESS_KEY".into(), SECRET_KEY.into()));
    System {
        name,
        root: root.clone(),
        cache,
        program: Some(Program {
            words: words.map(OsString::from).collect(),
            env,
        }),
        places: BTreeMap::new(),
        settled: Some(" INFO scanned "),
        _home: Some(home),
    }
}

fn rclone(ground: &Ground, remote: &str, root: &Path, cache: &Path) -> Program {
    let config = ground.path(&format!("rclone-{remote}.conf"));
    let (text, source) = match remote {
        "s3" => (
            format!(
                "type = s3\nprovider = Other\nforce_path_style = true\naccess_key_id = {ACCESS_KEY}\n\
                 secret_access_key = {SECRET_KEY}\nendpoint = http://{}\n",
                ground.s3_line.address()
            ),
            format!("remote:{BUCKET}/{PREFIX}"),
        ),
        _ => (
            // Without a shell it need not run a hash on the server for every file.
            format!(
                "type = sftp\nhost = 127.0.0.1\nuser = {USER}\nport = {}\nkey_file = {}\n\
                 known_hosts_file = {}\nshell_type = none\ndisable_hashcheck = true\n",
                ground.sftp_line.port(),
                ground.sftp.key_file().display(),
                ground.sftp.known_hosts().display()
            ),
            format!("remote:{}", ground.origin.display()),
        ),
    };
    fs::write(&config, format!("[remote]\n{text}")).unwrap();
    let mut words: Vec<OsString> = vec![program("rclone").into(), "mount".into(), source.into()];
    words.push(root.into());
    words.extend(["--read-only", "--vfs-cache-mode", "full", "--config"].map(OsString::from));
    words.extend([config.into(), "--cache-dir".into(), cache.into()]);
    Program {
        words,
        env: Vec::new(),
    }
}

fn sshfs(ground: &Ground, root: &Path, _cache: &Path) -> Program {
    let options = format!(
        "ro,IdentityFile={},UserKnownHostsFile={}",
        ground.sftp.key_file().display(),
        ground.sftp.known_hosts().display()
    );
    let source = format!("{USER}@127.0.0.1:{}", ground.origin.display());
    let port = ground.sftp_line.port().to_string();
    let words = ["sshfs", "-f", "-p", &port, "-o", &options, &source];
    let mut words: Vec<OsString> = words.map(OsString::from).into();
    words.push(root.into());
    Program {
        words,
        env: Vec::new(),
    }
}

fn s3fs(ground: &Ground, root: &Path, cache: &Path) -> Program {
    let options = format!(
        "ro,url=http://{},use_path_request_style,use_cache={}",
        ground.s3_line.address(),
        cache.display()
    );
    let source = format!("{BUCKET}:/{PREFIX}");
    let words = [
        "s3fs",
        &source,
        root.to_str().unwrap(),
        "-f",
        "-o",
        &options,
    ];
    Program {
        words: words.map(OsString::from).into(),
        env: vec![
            ("AWSACCESSKEYID".into(), ACCESS_KEY.into()),
            ("AWSSECRETACCESSKEY".into(), SECRET_KEY.into()),
        ],
    }
}

/// Its files are its own: they are written into it here, through an unshaped line.
fn juicefs(ground: &Ground, root: &Path, cache: &Path) -> Program {
    let meta = format!("redis://{}/1", ground.meta_line.address());
    let juicefs = program("juicefs");
    sh(&format!(
        "{juicefs:?} format --storage s3 --bucket http://{}/{BUCKET} --access-key {ACCESS_KEY} \
         --secret-key {SECRET_KEY} --trash-days 0 {meta} bench 2>&1",
        ground.s3_line.address()
    ));
    let words = ["mount", "--no-usage-report", "--no-syslog", "--cache-dir"];
    let mut all: Vec<OsString> = vec![juicefs.into()];
    all.extend(words.map(OsString::from));
    all.extend([cache.into(), OsString::from(meta), root.into()]);
    let system = System {
        name: "juicefs",
        root: root.to_owned(),
        cache: cache.to_owned(),
        program: Some(Program {
            words: all.clone(),
            env: Vec::new(),
        }),
        places: BTreeMap::new(),
        settled: None,
        _home: None,
    };
    let mounted = system.mount();
    // A file is uploaded when it is closed: many at once, or it takes minutes.
    sh(&format!(
        "cd {:?} && find . -type d -exec mkdir -p {root:?}/{{}} \\; && \
         find . -type f -print0 | xargs -0 -P 16 -n 8 cp --parents -t {root:?}",
        ground.origin
    ));
    drop(mounted);
    // What it is measured with: as the others, it writes nothing.
    all.insert(2, "--read-only".into());
    Program {
        words: all,
        env: Vec::new(),
    }
}
