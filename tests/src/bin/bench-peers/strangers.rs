//! Strangers at the door: what many handshakes of nodes of another cluster cost a daemon and its readers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use musicfs_peer::{DEFAULT_PORT, Keys, SERVER_NAME};
use musicfs_tests::bench::{Family, median, random_reads};
use tokio::runtime::Builder;

use crate::ground::{ALONE, Ground, HOLDER};
use crate::table::Better::Low;
use crate::table::Table;

/// How many knock, and in how long.
const ATTEMPTS: u32 = 10_000;
const PERIOD: Duration = Duration::from_secs(60);
/// In so many turns, with as much time without them between.
const TURNS: u32 = 20;
/// Between one lot of reads and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one waits for an answer.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Cached reads on the holder, alone and with strangers at its door, in turns: a machine is not as fast
/// all the time.
pub(crate) fn measure(ground: &Ground, table: &mut Table) {
    let files = ground.files(HOLDER);
    let family = Family::of(ground.daemon(HOLDER).pid());
    let target = SocketAddr::new(ground.lab.host(HOLDER).address().into(), DEFAULT_PORT);
    random_reads(&files, 1);
    let [mut idle, mut under] = [(); 2].map(|()| Observed::default());
    for _ in 0..TURNS {
        idle.observe(&files, &family);
        let got_in = std::thread::scope(|scope| {
            let host = ground.lab.host(ALONE);
            let knocking = scope.spawn(|| host.run(|| knock(target)));
            under.observe(&files, &family);
            knocking.join().unwrap()
        });
        assert_eq!(got_in, 0, "strangers were let in");
    }
    let title = "4 KiB cached at random, p99 in µs: alone, with 10,000 strangers in 60 s";
    table.note(title, Low, idle.p99_us(), under.p99_us());
    let title = "CPU of the daemon beyond that of the reads, % of a core";
    let cost = (under.cpu_per_s() - idle.cpu_per_s()).max(0.0) * 100.0;
    table.note(title, Low, 0.0, cost);
}

/// What was seen in all turns.
#[derive(Default)]
struct Observed {
    p99s_us: Vec<f64>,
    cpu_s: f64,
    seconds: f64,
}

impl Observed {
    /// Reads, with pauses, for as long as strangers knock in one turn.
    fn observe(&mut self, files: &[PathBuf], family: &Family) {
        let (started, cpu) = (Instant::now(), family.cpu_s());
        while started.elapsed() < PERIOD / TURNS {
            let [_, p99] = random_reads(files, 2 + self.p99s_us.len() as u64);
            self.p99s_us.push(p99);
            std::thread::sleep(PAUSE);
        }
        self.cpu_s += family.cpu_s() - cpu;
        self.seconds += started.elapsed().as_secs_f64();
    }

    fn p99_us(&mut self) -> f64 {
        median(&mut self.p99s_us)
    }

    fn cpu_per_s(&self) -> f64 {
        self.cpu_s / self.seconds
    }
}

/// Knocks at even intervals, for one turn, with the key of another cluster; how many were let in.
fn knock(target: SocketAddr) -> u32 {
    let dir = tempfile::tempdir().unwrap();
    let tls = Keys::new(dir.path()).init().unwrap().tls().unwrap();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let any: SocketAddr = ([0, 0, 0, 0], 0).into();
        let endpoint = quinn::Endpoint::client(any).unwrap();
        let mut ticks = tokio::time::interval(PERIOD / ATTEMPTS);
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..ATTEMPTS / TURNS {
            ticks.tick().await;
            let connecting = endpoint.connect_with(tls.client.clone(), target, SERVER_NAME);
            let connecting = connecting.unwrap();
            attempts.spawn(async move {
                // A handshake that this end finishes is refused by the other a moment later.
                let connected = tokio::time::timeout(ATTEMPT_WAIT_MAX, connecting).await;
                let Ok(Ok(connection)) = connected else {
                    return false;
                };
                let heard = tokio::time::timeout(ATTEMPT_WAIT_MAX, connection.accept_uni()).await;
                matches!(heard, Ok(Ok(_)))
            });
        }
        let mut let_in = 0;
        while let Some(is_in) = attempts.join_next().await {
            let_in += u32::from(is_in.unwrap());
        }
        let_in
    })
}
