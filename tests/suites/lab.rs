//! The lab itself: what the suites on it count on.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use musicfs_tests::daemon::Home;
use musicfs_tests::host::Host;
use musicfs_tests::lab::{Lab, SERVERS, script};
use musicfs_tests::remote::{Remote, write_album};
use musicfs_tests::servers::capture::{Capture, mention};
use musicfs_tests::{sh, tree, wait_until};

/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_secs(1);
/// How long to wait for what comes at once, or never.
const SOON: Duration = Duration::from_secs(10);
const PORT: u16 = 5000;

fn namespaces(id: &str) -> Vec<String> {
    let names = fs::read_dir("/run/netns").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.contains(&format!("-{id}-")))
        .collect()
}

fn is_alive(process: &mut Child) -> bool {
    process.try_wait().unwrap().is_none()
}

/// Listens on a host, and gives each client `bytes` bytes.
fn serve(host: &Host, bytes: usize) {
    let listener = host.run(|| TcpListener::bind((host.address(), PORT)).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || {
                // It may leave before it has all.
                let _ = client.unwrap().write_all(&vec![7; bytes]);
            });
        }
    });
}

fn connect(from: &Host, to: &Host) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((to.address(), PORT));
    let stream = from.run(|| TcpStream::connect_timeout(&address, SILENCE))?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

fn hears(from: &Host, to: &Host) -> bool {
    let heard = connect(from, to).and_then(|mut stream| stream.read(&mut [0; 1]));
    matches!(heard, Ok(1))
}

#[test]
fn what_runs_on_a_lab_ends_with_it_and_nothing_is_left() {
    let lab = Lab::new(2);
    let id = lab.id().to_owned();
    let outside = Command::new("sleep").arg("1000").spawn();
    let inside = lab.host(1).wrap(Command::new("sleep").arg("1000")).spawn();
    let (mut outside, mut inside) = (outside.unwrap(), inside.unwrap());
    // So that it is inside.
    let namespace = fs::read_link(format!("/proc/{}/ns/net", std::process::id())).unwrap();
    wait_until("the process to be inside", || {
        fs::read_link(format!("/proc/{}/ns/net", inside.id())).unwrap() != namespace
    });
    assert_eq!(namespaces(&id).len(), 4, "two nodes, the servers, a switch");
    assert!(sh(&format!("{:?} list", script())).contains(&format!("{id} s 10.")));
    drop(lab);
    assert_eq!(namespaces(&id), [] as [String; 0]);
    assert!(!sh(&format!("{:?} list", script())).contains(&id));
    wait_until("the end of what was inside", || !is_alive(&mut inside));
    assert!(is_alive(&mut outside), "a process of nobody's lab ended");
    outside.kill().unwrap();
    outside.wait().unwrap();
    // What is not there is down.
    sh(&format!("{:?} down {id}", script()));
}

#[test]
fn labs_do_not_see_each_other_nor_anything_else() {
    let (one, other) = (Lab::new(1), Lab::new(1));
    for lab in [&one, &other] {
        serve(lab.servers(), 1);
        assert!(hears(lab.host(1), lab.servers()));
    }
    assert!(!hears(one.host(1), other.servers()));
    // An address of documentation (RFC 5737), which is nowhere.
    let outside = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 80));
    let error = one.host(1).run(|| TcpStream::connect(outside)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = here.local_addr().unwrap();
    let error = one.host(1).run(|| TcpStream::connect(here)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn multicast_reaches_everyone() {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let lab = Lab::new(3);
    let listen = |host: &Host| {
        host.run(|| {
            let socket = UdpSocket::bind((group, PORT)).unwrap();
            socket.join_multicast_v4(&group, &host.address()).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket
        })
    };
    let listeners = [
        listen(lab.host(2)),
        listen(lab.host(3)),
        listen(lab.servers()),
    ];
    let sender = lab.host(1).run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    sender.send_to(b"hello", (group, PORT)).unwrap();
    for listener in listeners {
        let mut heard = [0; 5];
        let (len, from) = listener.recv_from(&mut heard).unwrap();
        assert_eq!(
            (&heard[..len], from.ip()),
            (&b"hello"[..], lab.host(1).address().into())
        );
    }
}

#[test]
fn a_capture_has_what_was_sent_until_it_is_looked_at() {
    let lab = Lab::new(2);
    let capture = Capture::start(lab.host(1));
    let sender = lab.host(2).run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for number in 0..100 {
        let text = format!("message {number};");
        let to = (lab.host(1).address(), PORT);
        sender.send_to(text.as_bytes(), to).unwrap();
    }
    let packets = capture.packets();
    assert!((0..100).all(|number| mention(&packets, &format!("message {number};"))));
    assert!(!mention(&packets, "message 100;"));
    sender
        .send_to(b"message 100;", (lab.host(1).address(), PORT))
        .unwrap();
    assert!(mention(&capture.packets(), "message 100;"));
}

#[test]
fn a_slow_line_is_slow_both_ways_and_only_for_its_host() {
    const BYTES: usize = 1 << 20;
    let lab = Lab::new(2);
    lab.rate(1, "8mbit");
    serve(lab.servers(), BYTES);
    serve(lab.host(1), BYTES);
    let load = |from: &Host, to: &Host| {
        let mut stream = connect(from, to).unwrap();
        let started = Instant::now();
        let mut bytes = vec![0; BYTES];
        stream.read_exact(&mut bytes).unwrap();
        started.elapsed()
    };
    // What waits in buffers and what may be sent at once is less than half of it.
    let half = Duration::from_millis(500);
    let (down, up) = (
        load(lab.host(1), lab.servers()),
        load(lab.servers(), lab.host(1)),
    );
    assert!(down > half && up > half, "{down:?} down, {up:?} up");
    let other = load(lab.host(2), lab.servers());
    assert!(
        other < down,
        "{other:?} on a fast line, {down:?} on a slow one"
    );
    assert!(lab.traffic(SERVERS, 1) >= BYTES as u64);
    assert!(lab.traffic(1, 2) < 10_000);
    lab.rate(1, "off");
    let fast = load(lab.host(1), lab.servers());
    assert!(fast < down, "{fast:?} when it is fast again");
}

#[test]
fn a_line_that_loses_packets_loses_about_as_many_as_it_should() {
    let lab = Lab::new(2);
    let receiver = lab
        .host(2)
        .run(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    let sender = lab.host(1).run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let heard = || {
        let mut count = 0;
        for number in 0..1000_u16 {
            let to = (lab.host(2).address(), PORT);
            sender.send_to(&number.to_le_bytes(), to).unwrap();
            // So few fit every buffer.
            if number % 100 == 99 {
                receiver
                    .set_read_timeout(Some(Duration::from_millis(200)))
                    .unwrap();
                while receiver.recv_from(&mut [0; 2]).is_ok() {
                    count += 1;
                }
            }
        }
        count
    };
    assert_eq!(heard(), 1000);
    lab.lose(2, 30);
    let lossy = heard();
    assert!((500..900).contains(&lossy), "{lossy} of 1000 came");
    lab.lose(2, 100);
    assert_eq!(heard(), 0);
    lab.lose(2, 0);
    assert_eq!(heard(), 1000);
}

#[test]
fn hosts_that_are_cut_off_come_back() {
    let lab = Lab::new(3);
    for node in 1..=3 {
        serve(lab.host(node), 1);
    }
    let hear = |one: usize, other: usize| hears(lab.host(one), lab.host(other));
    assert!(hear(1, 2) && hear(2, 1) && hear(1, 3) && hear(2, 3));
    lab.cut_pair(1, 2);
    assert!(!hear(1, 2) && !hear(2, 1) && hear(1, 3) && hear(2, 3));
    lab.cut(3);
    assert!(!hear(1, 3) && !hear(3, 2));
    lab.heal(3);
    assert!(hear(1, 3) && hear(3, 2) && !hear(1, 2));
    lab.heal(2);
    assert!(hear(1, 2) && hear(2, 1));
}

/// A home whose origin is an album of this many tracks.
fn album(tracks: usize) -> Home {
    let home = Home::new();
    write_album(&home.origin().join("album"), tracks, tracks as u64);
    home
}

fn read_all(pairs: &[(std::path::PathBuf, std::path::PathBuf)]) {
    for (file, original) in pairs {
        assert_eq!(tree::hash(file), tree::hash(original), "{file:?}");
    }
}

fn two_nodes_read_it(lab: &Lab, remote: &Remote) {
    let bytes: u64 = tree::files(&remote.home.origin())
        .iter()
        .map(|file| fs::metadata(remote.home.origin().join(file)).unwrap().len())
        .sum();
    for node in [1, 2] {
        let daemon = remote.mount_in(lab.node(node), &[]);
        daemon.wait_scanned(1);
        read_all(&remote.pairs_in(lab.node(node)));
        let address = lab.host(node).address().into();
        assert_eq!(remote.content_bytes_to(address), bytes, "node {node}");
        assert!(lab.traffic(SERVERS, node) >= bytes);
        daemon.stop();
    }
    assert_eq!(remote.content_bytes(), 2 * bytes);
}

#[test]
fn two_nodes_read_an_album_on_s3() {
    let lab = Lab::new(2);
    two_nodes_read_it(&lab, &Remote::s3_on(lab.servers(), album(2)));
}

#[test]
fn two_nodes_read_an_album_on_sftp() {
    let lab = Lab::new(2);
    two_nodes_read_it(&lab, &Remote::sftp_on(lab.servers(), album(2)));
}

/// The first bytes of a file's middle.
fn middle(file: &Path) -> std::io::Result<Vec<u8>> {
    let file = fs::File::open(file)?;
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, 500_000)?;
    Ok(bytes)
}

#[test]
fn a_node_that_is_cut_off_reads_what_it_has_and_the_rest_when_it_is_back() {
    let lab = Lab::new(1);
    let remote = Remote::s3_on(lab.servers(), album(2));
    let daemon = remote.mount_in(lab.node(1), &["--read-timeout-ms", "1000"]);
    daemon.wait_scanned(1);
    let [(read, read_original), (other, other_original)] =
        <[_; 2]>::try_from(remote.pairs_in(lab.node(1))).unwrap();
    read_all(&[(read.clone(), read_original)]);
    lab.cut(1);
    assert!(middle(&read).is_ok());
    assert!(middle(&other).is_err());
    lab.heal(1);
    let expected = middle(&other_original).unwrap();
    wait_until("the rest", || {
        middle(&other).is_ok_and(|bytes| bytes == expected)
    });
    daemon.stop_expecting(&["origin"]);
}

/// Set for the process that is killed.
const VICTIM: &str = "MUSICFS_TEST_VICTIM";

#[test]
fn a_lab_ends_when_its_test_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let lab = Lab::new(1);
        println!("lab={}", lab.id());
        // Until it is killed.
        let _ = std::io::stdin().read(&mut [0]);
        unreachable!("the victim was not killed");
    }
    let other = Lab::new(1);
    let mut victim = Command::new(std::env::current_exe().unwrap());
    let mut victim = victim
        .args([
            "--exact",
            "a_lab_ends_when_its_test_is_killed",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let id = lines
        .map(|line| line.unwrap())
        .find_map(|line| Some(line.split_once("lab=")?.1.to_owned()))
        .unwrap();
    assert_eq!(namespaces(&id).len(), 3);
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until("the end of the lab", || namespaces(&id).is_empty());
    assert_eq!(namespaces(other.id()).len(), 3, "another lab went too");
}
