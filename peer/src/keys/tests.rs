//! What lies on the disk, who may read it, and what a crash leaves.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn keys() -> (TempDir, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::new(&dir.path().join("state/den"));
    (dir, keys)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Who it is: cluster and node.
fn who(identity: &Identity) -> (String, String) {
    let (cluster, node) = (identity.fingerprint(), identity.node_id());
    (cluster.to_string(), node.to_string())
}

fn names(keys: &Keys) -> Vec<String> {
    let entries = fs::read_dir(keys.dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn without_a_cluster_there_is_no_identity_and_nothing_is_made() {
    let (dir, keys) = keys();
    assert!(keys.identity().unwrap().is_none());
    for result in [keys.leave(), keys.rotate().map(drop)] {
        assert!(
            matches!(result, Err(KeysError::NoCluster { .. })),
            "{result:?}"
        );
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_cluster_is_made_once_and_found_again() {
    let (_dir, keys) = keys();
    let made = who(&keys.init().unwrap());
    assert_eq!(who(&keys.identity().unwrap().unwrap()), made);
    let again = keys.init().unwrap_err();
    assert!(matches!(&again, KeysError::Member { cluster } if cluster.to_string() == made.0));
    assert!(again.fix().unwrap().contains("leave"));
    assert_eq!(who(&keys.identity().unwrap().unwrap()), made);
}

#[test]
fn who_joins_shares_the_cluster_and_has_a_name_of_its_own() {
    let ((_one, first), (_two, second)) = (keys(), keys());
    let founder = first.init().unwrap();
    let code = founder.join_code();
    let joined = second.join(&code).unwrap();
    assert!(joined.is_new);
    assert_eq!(joined.identity.fingerprint(), founder.fingerprint());
    assert_ne!(joined.identity.node_id(), founder.node_id());
    let again = second.join(&code).unwrap();
    assert!(!again.is_new);
    assert_eq!(who(&again.identity), who(&joined.identity));
    let other = ClusterKey::random().unwrap().join_code();
    assert!(matches!(second.join(&other), Err(KeysError::Member { .. })));
    assert_eq!(
        who(&second.identity().unwrap().unwrap()),
        who(&joined.identity)
    );
}

#[test]
fn a_new_cluster_key_leaves_the_node_its_name() {
    let (_dir, keys) = keys();
    let before = who(&keys.init().unwrap());
    let after = who(&keys.rotate().unwrap());
    assert!(
        after.0 != before.0 && after.1 == before.1,
        "{before:?} {after:?}"
    );
    assert_eq!(who(&keys.identity().unwrap().unwrap()), after);
}

#[test]
fn who_leaves_and_returns_is_a_new_node() {
    let (dir, keys) = keys();
    let before = keys.init().unwrap();
    // A copy of the whole directory is the same node, until it leaves and joins.
    let copy = Keys::new(&dir.path().join("copy"));
    fs::create_dir(dir.path().join("copy")).unwrap();
    fs::create_dir(copy.dir()).unwrap();
    set_mode(copy.dir(), 0o700);
    for name in names(&keys) {
        fs::copy(keys.dir().join(&name), copy.dir().join(&name)).unwrap();
    }
    assert_eq!(who(&copy.identity().unwrap().unwrap()), who(&before));
    copy.leave().unwrap();
    assert!(copy.identity().unwrap().is_none());
    assert_eq!(names(&copy), [] as [String; 0]);
    assert!(matches!(copy.leave(), Err(KeysError::NoCluster { .. })));
    let joined = copy.join(&before.join_code()).unwrap().identity;
    assert_eq!(joined.fingerprint(), before.fingerprint());
    assert_ne!(joined.node_id(), before.node_id());
}

#[test]
fn a_cluster_key_alone_gets_a_node_key() {
    let (_dir, keys) = keys();
    keys.init().unwrap();
    fs::remove_file(keys.dir().join("node.key")).unwrap();
    let made = who(&keys.identity().unwrap().unwrap());
    assert_eq!(who(&keys.identity().unwrap().unwrap()), made);
}

#[test]
fn keys_are_for_this_user_alone() {
    let (_dir, keys) = keys();
    keys.init().unwrap();
    assert_eq!(mode(keys.dir()), 0o700);
    assert_eq!(names(&keys), ["cluster.key", "node.key"]);
    for name in names(&keys) {
        assert_eq!(mode(&keys.dir().join(name)), 0o600);
    }
    keys.rotate().unwrap();
    assert_eq!(mode(&keys.dir().join("cluster.key")), 0o600);
}

#[test]
fn what_others_may_read_or_replace_is_not_used() {
    let (_dir, keys) = keys();
    let made = who(&keys.init().unwrap());
    let check = |path: &Path, open: u32, closed: u32| {
        set_mode(path, open);
        let errors = [
            keys.identity().map(drop).unwrap_err(),
            keys.rotate().map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, KeysError::Open { .. }), "{error}");
            assert!(
                error.to_string().contains(&format!("(mode {open:04o})")),
                "{error}"
            );
            let fix = format!("chmod {closed:o} {}", path.display());
            assert!(error.fix().unwrap().contains(&fix), "{:?}", error.fix());
        }
        set_mode(path, closed);
        assert_eq!(who(&keys.identity().unwrap().unwrap()), made);
    };
    for open in [0o750, 0o701, 0o770] {
        check(keys.dir(), open, 0o700);
    }
    for name in ["cluster.key", "node.key"] {
        for open in [0o640, 0o604, 0o620] {
            check(&keys.dir().join(name), open, 0o600);
        }
    }
}

#[test]
fn links_and_what_is_no_file_are_not_followed() {
    let (dir, keys) = keys();
    keys.init().unwrap();
    let path = keys.dir().join("node.key");
    let aside = dir.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    symlink(&aside, &path).unwrap();
    assert!(matches!(
        keys.identity(),
        Err(KeysError::Kind {
            expected: "file",
            ..
        })
    ));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(
        keys.identity(),
        Err(KeysError::Kind {
            expected: "file",
            ..
        })
    ));
    let moved = dir.path().join("moved");
    fs::rename(keys.dir(), &moved).unwrap();
    symlink(&moved, keys.dir()).unwrap();
    assert!(matches!(
        keys.identity(),
        Err(KeysError::Kind {
            expected: "directory",
            ..
        })
    ));
}

#[test]
fn a_damaged_key_is_an_error_until_the_user_drops_it() {
    for name in ["cluster.key", "node.key"] {
        let (_dir, keys) = keys();
        keys.init().unwrap();
        let path = keys.dir().join(name);
        for text in [
            "",
            "musicfs",
            "musicfs cluster key 1\n0123\n",
            &"x".repeat(100_000),
        ] {
            fs::write(&path, text).unwrap();
            for result in [keys.identity().map(drop), keys.rotate().map(drop)] {
                let error = result.unwrap_err();
                assert!(matches!(error, KeysError::Damaged { .. }), "{error}");
                assert!(error.fix().unwrap().contains("backup"));
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it was replaced");
        }
        keys.leave().unwrap();
        keys.init().unwrap();
    }
}

#[test]
fn what_a_killed_process_left_is_no_key_and_in_nobodys_way() {
    let (_dir, keys) = keys();
    let before = who(&keys.init().unwrap());
    for name in ["cluster.key.new", "node.key.new"] {
        fs::write(keys.dir().join(name), "musicfs clus").unwrap();
    }
    assert_eq!(who(&keys.identity().unwrap().unwrap()), before);
    let after = who(&keys.rotate().unwrap());
    assert_ne!(after, before);
    assert_eq!(who(&keys.identity().unwrap().unwrap()), after);
    keys.leave().unwrap();
    assert_eq!(names(&keys), [] as [String; 0]);
}

#[test]
fn many_at_once_agree_on_one_key() {
    let (_dir, keys) = keys();
    let start = std::sync::Barrier::new(8);
    let results: Vec<_> = std::thread::scope(|scope| {
        let init = || {
            start.wait();
            keys.init().map(|identity| who(&identity))
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(init)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let made: Vec<_> = results.iter().flatten().collect();
    assert_eq!(made.len(), 1, "{results:?}");
    assert_eq!(who(&keys.identity().unwrap().unwrap()), *made[0]);
    for result in &results {
        if let Err(error) = result {
            assert!(matches!(error, KeysError::Member { .. }), "{error}");
        }
    }
}

#[test]
fn nothing_of_a_key_is_in_what_is_printed() {
    let (_dir, keys) = keys();
    let identity = keys.init().unwrap();
    let printed = format!("{identity:?}");
    let expect = format!(
        "Identity {{ cluster: ClusterKey(..), node: NodeKey({}) }}",
        identity.node_id()
    );
    assert_eq!(printed, expect);
}
