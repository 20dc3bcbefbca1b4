//! The rows of the table: what is done in one round of each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use musicfs_tests::bench::{Family, HEAD_BYTES, median, read_all, read_at, timed};

use crate::ground::{ALONE, Ground, HOLDER, PLAYER};
use crate::loopback;
use crate::strangers;
use crate::table::Better::{High, Low};
use crate::table::Table;

/// How a row is measured.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    /// In this process.
    Here(fn(&mut Table)),
    /// On nodes of a network.
    Lab(fn(&Ground, &mut Table)),
}

pub(crate) const ROWS: [(&str, Measure); 6] = [
    ("loopback", Measure::Here(loopback::measure)),
    (
        "free",
        Measure::Lab(|ground, table| line(ground, table, "off")),
    ),
    (
        "gigabit",
        Measure::Lab(|ground, table| line(ground, table, "1gbit")),
    ),
    (
        "fast",
        Measure::Lab(|ground, table| line(ground, table, "100mbit")),
    ),
    ("first", Measure::Lab(first)),
    ("strangers", Measure::Lab(strangers::measure)),
];

/// What is written to TCP at once.
const PIECE_BYTES: usize = 256 << 10;
/// Where the first bytes are read, in megabytes: behind what is kept for tag readers.
const SEEK_MB: u64 = 5;

/// An album, fetched from a node over a line of this rate.
fn line(ground: &Ground, table: &mut Table, rate: &str) {
    let name = match rate {
        "off" => "free line".to_owned(),
        _ => format!("line of {rate}"),
    };
    ground.lab.rate(PLAYER, rate);
    let bytes = ground.bytes();
    let megabytes = bytes as f64 / 1e6;
    let tcp = megabytes / timed(|| tcp(ground, bytes));
    let files = ground.files(PLAYER);
    ground.forget(PLAYER);
    let before = ground.origin_traffic();
    let [serving, asking] = [HOLDER, PLAYER].map(|node| Family::of(ground.daemon(node).pid()));
    let cpu = || [serving.cpu_s(), asking.cpu_s()];
    let cpu_before = cpu();
    let ours = megabytes / timed(|| read_all(&files));
    let cpu_after = cpu();
    let from_origin = (ground.origin_traffic() - before) as f64 / 1e6;
    assert!(from_origin < 1.0, "{from_origin} MB came from the origin");
    table.note(&format!("album, {name}, MB/s, beside TCP"), High, tcp, ours);
    let per_gigabyte = |which: usize| (cpu_after[which] - cpu_before[which]) / megabytes * 1e3;
    for (which, side) in ["serving", "fetching and reading"].into_iter().enumerate() {
        let title = format!("CPU of {side}, {name}, s/GB");
        table.note(&title, Low, 0.0, per_gigabyte(which));
    }
    ground.forget(PLAYER);
    let ours = megabytes / timed(|| ground.lab.node(PLAYER).run(&["prefetch", "."]));
    table.note(
        &format!("prefetch, {name}, MB/s, beside TCP"),
        High,
        tcp,
        ours,
    );
    ground.lab.rate(PLAYER, "off");
}

/// So many bytes over one TCP connection, from the holder's host to the player's.
fn tcp(ground: &Ground, bytes: u64) {
    let [holder, player] = [HOLDER, PLAYER].map(|node| ground.lab.host(node));
    let listener = holder.run(|| TcpListener::bind((holder.address(), 0)).unwrap());
    let address: SocketAddr = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let piece = vec![7; PIECE_BYTES];
            let mut left = bytes;
            while left > 0 {
                let len = left.min(PIECE_BYTES as u64);
                stream
                    .write_all(&piece[..usize::try_from(len).unwrap()])
                    .unwrap();
                left -= len;
            }
        });
        let mut stream = player.run(|| TcpStream::connect(address).unwrap());
        let mut piece = vec![0; PIECE_BYTES];
        while stream.read(&mut piece).unwrap() > 0 {}
    });
}

/// The first bytes of cold tracks: from a node of the network, and from an origin that is far away.
fn first(ground: &Ground, table: &mut Table) {
    for (node, is_far) in [(ALONE, true), (PLAYER, true)] {
        ground.set_far(false);
        ground.forget(node);
        ground.set_far(is_far);
    }
    let read = |node: usize| {
        let files = ground.files(node);
        let mut times: Vec<f64> = files
            .iter()
            .map(|file| timed(|| read_at(file, SEEK_MB << 20, HEAD_BYTES)) * 1e3)
            .collect();
        median(&mut times)
    };
    let (origin, peer) = (read(ALONE), read(PLAYER));
    ground.set_far(false);
    table.note(
        "first 64 KiB in mid-track, ms, beside S3 20 ms away",
        Low,
        origin,
        peer,
    );
}
