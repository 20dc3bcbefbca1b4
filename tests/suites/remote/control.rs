//! What users ask of the cache.

use std::process::Output;

use musicfs_tests::sh;
use serde_json::Value;

use super::*;

fn json(remote: &Remote, args: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(args);
    let output: Output = remote.home.run(&all);
    assert!(output.status.success(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.trim().lines().last().unwrap_or_default();
    serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(last))
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

#[test]
fn the_cache_is_told_prefetched_pinned_and_cleared() {
    let remote = Remote::s3(album());
    let bytes = album_bytes(&remote);
    let daemon = remote.mount_scanned(&[]);
    let before = remote.content_bytes();
    json(&remote, &["prefetch", "."]);
    assert_eq!(remote.content_bytes(), bytes);
    assert!(before < bytes);
    read_by_four(&remote);
    assert_eq!(remote.content_bytes(), bytes);
    let stats = json(&remote, &["cache", "stats"]);
    assert!(stats["size_bytes"].as_u64().unwrap() >= bytes, "{stats}");
    assert!(stats["hits"].as_u64().unwrap() > 0, "{stats}");
    let checked = json(&remote, &["verify"]);
    assert_eq!(checked["blocks_corrupt"].as_u64(), Some(0), "{checked}");
    json(&remote, &["cache", "clear"]);
    let stats = json(&remote, &["cache", "stats"]);
    assert!(stats["size_bytes"].as_u64().unwrap() < bytes / 4, "{stats}");
    json(&remote, &["pin", "."]);
    wait_until("the pinned album", || {
        let pins = json(&remote, &["pins"]);
        pins["pins"][0]["bytes_cached"].as_u64() == Some(bytes)
    });
    read_by_four(&remote);
    assert_eq!(remote.content_bytes(), 2 * bytes);
    json(&remote, &["unpin", "."]);
    daemon.stop();
}

#[test]
fn damage_in_the_cache_is_found_at_the_first_read_and_healed() {
    let remote = Remote::s3(album());
    let daemon = remote.mount_scanned(&[]);
    let bytes = fetch_by_four(&remote);
    daemon.stop();
    let objects = remote.home.path("cache");
    // One byte in the middle of each object.
    sh(&format!(
        "find {objects:?} -path '*/objects/*' -type f ! -name '*.map' -size +1M | \
         while read -r file; do printf '\\xa5\\x5a\\xff' | \
         dd of=\"$file\" bs=1 seek=1000000 conv=notrunc status=none; done"
    ));
    let daemon = remote.mount_scanned(&[]);
    read_by_four(&remote);
    let healed = remote.content_bytes() - bytes;
    // The damaged block of each track, and nothing else.
    assert_eq!(healed, TRACKS as u64 * 65_536);
    daemon.stop_expecting(&["stored blocks are damaged"]);
}
