//! The relay: its line is as slow, as long and as broken as it is told to be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use musicfs_tests::servers::proxy::{Fault, Proxy, Shape};
use musicfs_tests::wait_until;

/// For what is to come.
const LONG: Duration = Duration::from_secs(30);
/// For what is not to come at all.
const SHORT: Duration = Duration::from_millis(200);

/// A server that sends everything back, and ends when its client does. Its thread ends with the
/// test process.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || {
                let mut client = client.unwrap();
                let mut back = client.try_clone().unwrap();
                // A line that breaks is what is tested.
                let _ = io::copy(&mut client, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Sends `bytes` and the end; returns what comes back until the end.
fn exchange(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let stream = connect(proxy);
    let mut sending = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sending.write_all(bytes).unwrap();
            sending.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&stream).read_to_end(&mut back).unwrap();
        back
    })
}

#[test]
fn bytes_pass_unchanged_and_are_counted() {
    let proxy = Proxy::start(echo());
    let bytes: Vec<u8> = (0..5_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    assert!(exchange(&proxy, &bytes) == bytes);
    assert_eq!(
        (proxy.bytes_up(), proxy.bytes_down()),
        (5_000_000, 5_000_000)
    );
    assert_eq!(proxy.connections(), 1);
    assert!(exchange(&proxy, b"").is_empty());
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn a_slow_line_is_slow_for_all_together() {
    let proxy = Proxy::start(echo());
    proxy.set_shape(Shape {
        rate_bytes_per_s: Some(1 << 20),
        ..Shape::default()
    });
    let bytes = vec![b'x'; 150 << 10];
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(exchange(&proxy, &bytes) == bytes));
        }
    });
    // 300 KiB at 1 MiB/s, each way at the same time, less what a burst may carry.
    let least = Duration::from_millis(280);
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
}

#[test]
fn a_long_line_delays_everything() {
    let proxy = Proxy::start(echo());
    let delay_each_way = Duration::from_millis(60);
    proxy.set_shape(Shape {
        delay_each_way,
        ..Shape::default()
    });
    let started = Instant::now();
    let mut stream = connect(&proxy);
    let mut byte = [0];
    stream.write_all(b"a").unwrap();
    stream.read_exact(&mut byte).unwrap();
    // A round trip for the connection, and one for the byte.
    assert!(started.elapsed() >= delay_each_way * 4);
    let started = Instant::now();
    stream.write_all(b"b").unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");
    assert!(started.elapsed() >= delay_each_way * 2);
}

#[test]
fn a_refused_connection_is_reset_and_others_go_on() {
    let proxy = Proxy::start(echo());
    let mut before = connect(&proxy);
    before.write_all(b"a").unwrap();
    before.read_exact(&mut [0]).unwrap();
    proxy.set_fault(Fault::Refuse);
    let mut refused = connect(&proxy);
    let failure = refused.read(&mut [0]).unwrap_err();
    assert_eq!(failure.kind(), io::ErrorKind::ConnectionReset);
    before.write_all(b"b").unwrap();
    before.read_exact(&mut [0]).unwrap();
    proxy.set_fault(Fault::None);
    assert_eq!(exchange(&proxy, b"c"), b"c");
    assert_eq!(proxy.connections(), 3);
}

#[test]
fn a_line_that_hangs_goes_on_when_it_is_mended() {
    let proxy = Proxy::start(echo());
    let mut before = connect(&proxy);
    before.write_all(b"a").unwrap();
    before.read_exact(&mut [0]).unwrap();
    proxy.set_fault(Fault::Hang);
    let mut after = connect(&proxy);
    wait_until("the connection", || proxy.connections() == 2);
    for stream in [&mut before, &mut after] {
        stream.write_all(b"b").unwrap();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let failure = stream.read(&mut [0]).unwrap_err();
        assert_eq!(
            failure.kind(),
            io::ErrorKind::WouldBlock,
            "nothing comes, not even an end"
        );
    }
    proxy.set_fault(Fault::None);
    for stream in [&mut before, &mut after] {
        let mut byte = [0];
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"b");
    }
}

#[test]
fn a_cut_line_brings_exactly_so_many_bytes() {
    let proxy = Proxy::start(echo());
    let mut before = connect(&proxy);
    before.write_all(b"abc").unwrap();
    before.read_exact(&mut [0; 3]).unwrap();
    proxy.set_fault(Fault::CutAfter(100_000));
    let bytes = vec![b'x'; 150_000];
    for mut stream in [before, connect(&proxy)] {
        stream.write_all(&bytes).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), 100_000);
    }
    proxy.set_fault(Fault::None);
    assert!(exchange(&proxy, &bytes) == bytes);
}

#[test]
fn everything_is_dropped_at_once() {
    let proxy = Proxy::start(echo());
    let mut streams = [connect(&proxy), connect(&proxy)];
    for stream in &mut streams {
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    proxy.drop_all();
    for stream in &mut streams {
        let failure = stream.read(&mut [0]).unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!(exchange(&proxy, b"b"), b"b");
    let address = proxy.address();
    let mut last = connect(&proxy);
    last.write_all(b"c").unwrap();
    last.read_exact(&mut [0]).unwrap();
    drop(proxy);
    assert!(
        matches!(last.read(&mut [0]), Ok(0) | Err(_)),
        "its connections end with it"
    );
    assert!(TcpStream::connect(address).is_err());
}
