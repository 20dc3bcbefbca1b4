//! Servers that are away, slow or wrong.

use std::path::PathBuf;

use musicfs_tests::remote::Server;
use musicfs_tests::servers::s3_proxy::{S3Fault, S3Kind, When};

use super::*;

fn proxy(remote: &Remote) -> &musicfs_tests::servers::s3_proxy::S3Proxy {
    match &remote.server {
        Server::S3 { proxy, .. } => proxy,
        Server::Sftp(_) => unreachable!("these tests are about S3"),
    }
}

fn read_all(pair: &(PathBuf, PathBuf)) -> std::io::Result<bool> {
    Ok(fs::read(&pair.0)? == fs::read(&pair.1)?)
}

#[test]
fn what_is_cached_plays_while_the_server_is_away_and_the_rest_comes_back_with_it() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&["--read-timeout-ms", "3000"]);
    let pairs = remote.pairs();
    assert!(read_all(&pairs[0]).unwrap());
    proxy(&remote).inject(When::all(S3Kind::Get), S3Fault::Status(503));
    proxy(&remote).inject(When::all(S3Kind::List), S3Fault::Status(503));
    assert!(read_all(&pairs[0]).unwrap());
    assert_eq!(tree::files(daemon.mount_point()).len(), TRACKS);
    let error = fs::read(&pairs[1].0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    proxy(&remote).clear_faults();
    wait_until("the track", || read_all(&pairs[1]).unwrap_or(false));
    daemon.stop_expecting(&["read failed", "the origin does not answer"]);
}

#[test]
fn broken_answers_give_no_wrong_byte() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&[]);
    let faults = [
        S3Fault::Truncate(100_000),
        S3Fault::Lengthen(1000),
        S3Fault::Status(500),
        S3Fault::Status(429),
        S3Fault::IgnoreRange,
    ];
    for (pair, fault) in remote.pairs().iter().zip(faults) {
        proxy(&remote).inject(When::all(S3Kind::Get).times(2), fault);
        // The read may fail, for a while: but what it gives is right.
        wait_until("the track", || match read_all(pair) {
            Ok(is_right) => {
                assert!(is_right, "wrong bytes");
                true
            }
            Err(_) => false,
        });
        proxy(&remote).clear_faults();
    }
    daemon.stop_expecting(&["read failed", "the origin does not answer"]);
}

#[test]
fn an_object_replaced_under_its_reader_gives_an_error_and_then_the_new_one() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&[]);
    let (file, original) = remote.pairs().remove(0);
    let open = fs::File::open(&file).unwrap();
    let mut bytes = fs::read(&original).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 400_000] {
        *byte ^= 0x55;
    }
    fs::write(&original, &bytes).unwrap();
    let name = tree::real_path(&file);
    remote.upload(&name);
    let mut got = vec![0; 65_536];
    assert!(open.read_exact_at(&mut got, middle as u64).is_err());
    let mount = daemon.mount_point();
    wait_until("the new content", || {
        // The old entry may go while it is looked at.
        let files = tree::files(mount);
        let content = |file: &String| fs::read(mount.join(file)).ok();
        files.len() == TRACKS && files.iter().filter_map(content).any(|got| got == bytes)
    });
    drop(open);
    daemon.stop_expecting(&["read failed"]);
}

#[test]
fn wrong_credentials_say_what_to_do_and_no_secret_shows() {
    let remote = Remote::s3(album());
    let url = remote.url();
    let secret = "MUSICFS-VERY-SECRET-KEY";
    let mount_point = remote.home.mount_point();
    let mut command = remote.home.command(&[
        "mount",
        mount_point.to_str().unwrap(),
        "--origin",
        &url,
        "--log",
        "trace",
    ]);
    command
        .env("AWS_ACCESS_KEY_ID", "AKWRONG")
        .env("AWS_SECRET_ACCESS_KEY", secret);
    let output = musicfs_tests::outcome::outcome(command);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("credentials"), "{text}");
    assert!(!text.contains(secret), "the secret shows");
}
