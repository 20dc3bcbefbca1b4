//! A file that another takes the place of while it is read.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::cell::Cell;
use super::oracle::{Handle, recovers, tree_of};
use super::site::{Site, library};

/// The beginning, which holds the tags, is the same in both versions: so is the name.
const SAME_BYTES: usize = 8 << 10;
/// Behind it every so many bytes one differs: in every piece of a few pages.
const DIFFERENT_EVERY: usize = 1024;
/// What is read of an old handle at once.
const PIECE_BYTES: usize = 200_000;

/// A handle that was open gives bytes of the old file or an error; each one opened later gives one
/// of the two, wholly; in the end it is the new one.
pub(crate) fn under_its_reader(site: &Site, cell: Cell) {
    let files = tree_of(&site.home.mount_point(), library());
    let (real, path) = files.first_key_value().unwrap();
    let old = &library()[real][..];
    let new = replacement(old);
    // One that has begun, and one that is being read all the time.
    let begun = Handle::open(path).unwrap();
    assert!(
        begun.is_right_at(0, PIECE_BYTES, old),
        "nothing is wrong yet"
    );
    let reading = Handle::open(path).unwrap();
    let (started_tx, started) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name(format!("{cell} reader"));
        let read = move || {
            for offset in (0..old.len()).step_by(PIECE_BYTES) {
                reading.is_right_at(offset, PIECE_BYTES, old);
                // Nobody waits behind the first.
                let _ = started_tx.send(());
            }
        };
        reader.spawn_scoped(scope, read).unwrap();
        started.recv().expect("the reader reads");
        site.replace(real, &new);
        // From the end: nothing has read that far ahead.
        for offset in (0..old.len()).step_by(PIECE_BYTES).rev() {
            begun.is_right_at(offset, PIECE_BYTES, old);
        }
    });
    recovers(real, || is_new(site, path, &[old, &new]));
    for offset in (0..old.len()).step_by(PIECE_BYTES) {
        begun.is_right_at(offset, PIECE_BYTES, old);
    }
    // The others have not changed.
    for (real, path) in files.iter().skip(1) {
        let handle = Handle::open(path).unwrap();
        handle.version(&[&library()[real]]).unwrap();
    }
}

/// Has the origin looked at, and reads the name opened anew; an error as long as it is the old
/// file.
fn is_new(site: &Site, path: &Path, versions: &[&[u8]]) -> io::Result<()> {
    let rescan = site.home.run(&["origin", "rescan", "site"]);
    assert!(rescan.status.success(), "{rescan:?}");
    match Handle::open(path)?.version(versions)? {
        0 => Err(Errno::STALE.into()),
        _ => Ok(()),
    }
}

/// The same file with other audio.
fn replacement(old: &[u8]) -> Vec<u8> {
    let mut new = old.to_vec();
    let different = new[SAME_BYTES..].iter_mut().step_by(DIFFERENT_EVERY);
    different.for_each(|byte| *byte ^= 0x55);
    new
}
