//! Nobody answers.

use super::*;

#[test]
fn with_every_origin_away_the_tree_is_whole_and_what_is_cached_plays() {
    let pair = Pair::new([Place::S3, Place::Sftp]);
    let daemon = pair.mount_scanned();
    let (cached, uncached) = (pair.track(1), pair.track(2));
    assert!(is_equal(&cached.0, &cached.1).unwrap());
    let tree_before = tree::stats(daemon.mount_point());
    for server in &pair.servers {
        server.process().kill();
    }
    assert_eq!(tree::stats(daemon.mount_point()), tree_before);
    assert!(is_equal(&cached.0, &cached.1).unwrap());
    let error = fs::read(&uncached.0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    let told = |id: &str| {
        let away = |line: &&str| line.contains("does not answer") && line.contains(id);
        daemon.log().lines().filter(away).count()
    };
    wait_until("the failure to be told", || told("origin=first") > 0);
    assert!(is_equal(&cached.0, &cached.1).unwrap());
    for server in &pair.servers {
        server.process().restart();
    }
    wait_until("reads to go on", || {
        is_equal(&uncached.0, &uncached.1).unwrap_or(false)
    });
    assert_eq!(told("origin=first"), 1, "told once");
    // Nobody had a reason to ask the second before its next check.
    assert!(told("origin=second") <= 1, "told once");
    daemon.stop_expecting(&["the origin does not answer", "read failed"]);
}

#[test]
fn a_mount_whose_origins_are_away_serves_what_is_known() {
    let pair = Pair::new([Place::S3, Place::Sftp]);
    let daemon = pair.mount_scanned();
    let (cached, uncached) = (pair.track(1), pair.track(2));
    assert!(is_equal(&cached.0, &cached.1).unwrap());
    let tree_before = tree::paths(daemon.mount_point());
    daemon.stop();
    pair.servers[0].process().kill();
    pair.servers[1].process().pause();
    let daemon = pair.mount();
    assert_eq!(tree::paths(daemon.mount_point()), tree_before);
    assert!(is_equal(&cached.0, &cached.1).unwrap());
    assert!(fs::read(&uncached.0).is_err());
    pair.servers[0].process().restart();
    wait_until("reads to go on", || {
        is_equal(&uncached.0, &uncached.1).unwrap_or(false)
    });
    pair.servers[1].process().resume();
    wait_until("both to be scanned", || {
        daemon.log().matches(" INFO scanned ").count() >= 2
    });
    assert_eq!(tree::paths(daemon.mount_point()), tree_before);
    daemon.stop_expecting(&["the origin does not answer", "read failed"]);
}

#[test]
fn copies_that_are_not_proven_equal_are_never_mixed() {
    // Nothing proves that a bucket and an SFTP server have the same bytes before they were read.
    let pair = Pair::new([Place::Sftp, Place::S3]);
    let daemon = pair.mount_scanned();
    let (file, original) = pair.track(1);
    let open = fs::File::open(&file).unwrap();
    let mut front = vec![0; 300_000];
    std::os::unix::fs::FileExt::read_exact_at(&open, &mut front, 0).unwrap();
    pair.servers[0].process().kill();
    let mut middle = vec![0; 300_000];
    let read = std::os::unix::fs::FileExt::read_exact_at(&open, &mut middle, 9_000_000);
    assert!(read.is_err(), "the other copy may have other bytes there");
    drop(open);
    // Opened anew, the other copy is read.
    wait_until("the other copy", || {
        is_equal(&file, &original).unwrap_or(false)
    });
    daemon.stop_expecting(&["the origin does not answer", "read failed"]);
}
