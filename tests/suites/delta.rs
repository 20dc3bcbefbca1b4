//! What a rescan of a remote library costs: files that were re-tagged, scans that were interrupted.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[path = "delta/resume.rs"]
mod resume;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use musicfs_tests::daemon::{Daemon, Home};
use musicfs_tests::remote::{Remote, Server, write_album};
use musicfs_tests::servers::s3::S3Server;
use musicfs_tests::{sh, tree, wait_for, wait_until};
use serde_json::Value;

/// The size of a track, about: so large that headers and tails are a few hundredths of it.
const MEGABYTES: u64 = 9;

/// How an object is put on the server.
#[derive(Clone, Copy, Debug)]
enum Upload {
    Whole,
    InParts,
}

/// Bytes of a part; S3 wants no fewer.
const PART_BYTES: usize = 5 << 20;

/// A daemon whose only track is cached to its end.
struct Played {
    /// In front of what it needs.
    daemon: Daemon,
    remote: Remote,
    /// Below the origin.
    file: String,
}

/// The figures of the cache that deltas are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deltas {
    files: u64,
    unproven: u64,
}

/// A home with one FLAC file.
fn flac() -> (Home, &'static str) {
    let home = Home::new();
    write_album(&home.origin().join("album"), 1, MEGABYTES);
    (home, "album/1.flac")
}

/// A home with one file that `encode` makes of `noise.wav` of so many seconds.
fn encoded(seconds: u64, file: &'static str, encode: &str) -> (Home, &'static str) {
    let home = Home::new();
    let origin = home.origin();
    fs::create_dir_all(&origin).unwrap();
    let work = home.path("");
    sh(&format!(
        "cd {work:?}; sox -R -n -r 44100 -b 16 -c 2 noise.wav synth {seconds} whitenoise; \
         {encode}; rm noise.wav"
    ));
    (home, file)
}

impl Played {
    fn new(remote: Remote, file: &str) -> Self {
        let daemon = remote.mount_scanned(&[]);
        let played = Self {
            remote,
            daemon,
            file: file.to_owned(),
        };
        let mounted = played.mounted();
        assert_eq!(tree::hash(&mounted), tree::hash(&played.original()));
        played
    }

    fn original(&self) -> PathBuf {
        self.remote.home.origin().join(&self.file)
    }

    fn size(&self) -> u64 {
        fs::metadata(self.original()).unwrap().len()
    }

    /// The track's file in the mount, whatever its name.
    fn mounted(&self) -> PathBuf {
        let mount = self.daemon.mount_point();
        mount.join(&tree::files(mount)[0])
    }

    fn stats(&self) -> Value {
        let output = self.remote.home.run(&["--json", "cache", "stats"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn deltas(&self) -> Deltas {
        let stats = self.stats();
        Deltas {
            files: stats["delta_files"].as_u64().unwrap(),
            unproven: stats["delta_unproven"].as_u64().unwrap(),
        }
    }

    /// Puts what the original is now on the server, and has it listed.
    fn publish(&self, upload: Upload) {
        let original = self.original();
        match &self.remote.server {
            Server::S3 { prefix, .. } => {
                let key = format!("{prefix}/{}", self.file);
                let bytes = fs::read(&original).unwrap();
                match upload {
                    Upload::Whole => S3Server::shared().put(&key, &bytes),
                    Upload::InParts => {
                        S3Server::shared().put_multipart(&key, &bytes, PART_BYTES);
                        let tag = S3Server::shared().etag(&key);
                        assert!(tag.contains('-'), "{tag} is not that of parts");
                    }
                }
            }
            // Old enough to be indexed at once, and another time than before.
            Server::Sftp(_) => drop(sh(&format!("touch -d '-30 minutes' {original:?}"))),
        }
        let id = self.remote.home.origin_id();
        let rescan = self.remote.home.run(&["origin", "rescan", &id]);
        assert!(rescan.status.success(), "{rescan:?}");
    }

    /// Edits the original with `script`, which finds it in `$FILE` and has to set the title;
    /// publishes it, waits until it shows, reads it, and compares it. Tells how many bytes of it
    /// the server sent.
    fn edit(&self, title: &str, script: &str, upload: Upload) -> u64 {
        let before = self.remote.content_bytes();
        let file = self.original();
        sh(&format!("set -e; FILE={file:?}; TITLE={title:?}; {script}"));
        self.publish(upload);
        let (shown, _) = wait_for("the new title", || {
            let shown = self.mounted();
            shown.to_string_lossy().contains(title).then_some(shown)
        });
        assert_eq!(tree::hash(&shown), tree::hash(&file), "{title}");
        self.remote.content_bytes() - before
    }

    /// The same, and less than a tenth of the file must have come.
    fn edit_cheaply(&self, title: &str, script: &str, upload: Upload) {
        let before = self.deltas();
        let bytes = self.edit(title, script, upload);
        let size = self.size();
        assert!(bytes * 10 < size, "{title}: {bytes} bytes of {size}");
        let counted = Deltas {
            files: before.files + 1,
            ..before
        };
        assert_eq!(self.deltas(), counted, "{title}");
    }
}

/// Sets the title, with more tags.
fn metaflac(more: &str) -> String {
    format!("metaflac --remove-tag=TITLE --set-tag=TITLE=\"$TITLE\" {more} \"$FILE\"")
}

/// Edits that move the audio back and forth, and one that does not.
fn edit_flac(played: &Played, upload: Upload) {
    let comment = "--set-tag=COMMENT=$(head -c 50000 /dev/zero | tr '\\0' x)";
    let size = played.size();
    let script = metaflac(comment) + "; metaflac --add-padding=4096 \"$FILE\"";
    played.edit_cheaply("Longer", &script, upload);
    let longer = played.size();
    assert!(longer >= size + 40_000, "the audio has moved");
    played.edit_cheaply("Within the padding", &metaflac(""), upload);
    assert_eq!(played.size(), longer, "the audio has not moved");
    let script = metaflac("--remove-tag=COMMENT")
        + "; metaflac --remove --block-type=PADDING --dont-use-padding \"$FILE\"";
    played.edit_cheaply("Shorter", &script, upload);
    assert!(played.size() <= longer - 50_000, "the audio has moved back");
    let saved = played.stats()["delta_bytes_saved"].as_u64().unwrap();
    assert!(saved > 3 * size / 10 * 9, "{saved} bytes saved");
}

#[test]
fn a_retagged_flac_on_s3_moves_little() {
    let (home, file) = flac();
    let played = Played::new(Remote::s3(home), file);
    edit_flac(&played, Upload::Whole);
    played.daemon.stop();
}

#[test]
fn a_retagged_flac_uploaded_in_parts_moves_little() {
    let (home, file) = flac();
    let played = Played::new(Remote::s3(home), file);
    edit_flac(&played, Upload::InParts);
    // What was put together is durable like anything that was fetched.
    let before = played.remote.content_bytes();
    let Played { remote, daemon, .. } = played;
    daemon.stop();
    let daemon = remote.mount_scanned(&[]);
    for (mounted, original) in remote.pairs() {
        assert_eq!(tree::hash(&mounted), tree::hash(&original));
    }
    assert_eq!(remote.content_bytes(), before);
    daemon.stop();
}

#[test]
fn a_retagged_flac_on_sftp_moves_little_where_the_server_may_hash() {
    let (home, file) = flac();
    let played = Played::new(Remote::sftp_hashing(home), file);
    let comment = "--set-tag=COMMENT=$(head -c 50000 /dev/zero | tr '\\0' x)";
    played.edit_cheaply("Longer", &metaflac(comment), Upload::Whole);
    played.daemon.stop();
}

#[test]
fn a_retagged_mp3_moves_little() {
    // Encoding much noise takes long; the same frames again are as good.
    let encode = "lame --quiet -t -b 320 noise.wav part.mp3; \
                  for i in $(seq 10); do cat part.mp3; done > origin/a.mp3; rm part.mp3";
    let (home, file) = encoded(24, "a.mp3", encode);
    let played = Played::new(Remote::s3(home), file);
    let script = |comment: usize| {
        format!(
            "/usr/bin/python3 -c 'import sys; from mutagen.id3 import ID3, TIT2, COMM; tags = ID3()\n\
             tags.add(TIT2(3, [sys.argv[2]])); tags.add(COMM(3, \"eng\", \"\", \"x\" * {comment}))\n\
             tags.save(sys.argv[1], padding=lambda _: 0)' \"$FILE\" \"$TITLE\""
        )
    };
    let size = played.size();
    played.edit_cheaply("Grown", &script(40_000), Upload::Whole);
    assert!(played.size() >= size + 40_000, "the audio has moved");
    played.edit_cheaply("Shrunk", &script(10), Upload::InParts);
    assert!(played.size() < size + 1_000, "the audio has moved back");
    played.daemon.stop();
}

#[test]
fn a_retagged_m4a_with_its_index_in_front_moves_little() {
    let encode = "ffmpeg -v error -i noise.wav -c:a alac -movflags +faststart \
                  -metadata title=First origin/a.m4a";
    let (home, file) = encoded(55, "a.m4a", encode);
    let played = Played::new(Remote::s3(home), file);
    let size = played.size();
    let script = "/usr/bin/python3 -c 'import sys; from mutagen.mp4 import MP4\n\
                  tags = MP4(sys.argv[1]); tags[\"\\xa9nam\"] = [sys.argv[2]]\n\
                  tags[\"\\xa9cmt\"] = [\"x\" * 40000]; tags.save()' \"$FILE\" \"$TITLE\"";
    played.edit_cheaply("Grown", script, Upload::Whole);
    assert!(played.size() >= size + 30_000, "the audio has moved");
    played.daemon.stop();
}

#[test]
fn without_a_checksum_everything_is_fetched() {
    let (home, file) = flac();
    let played = Played::new(Remote::sftp(home), file);
    let bytes = played.edit("Other", &metaflac(""), Upload::Whole);
    assert_eq!(bytes, played.size());
    let expect = Deltas {
        files: 0,
        unproven: 1,
    };
    assert_eq!(played.deltas(), expect);
    played.daemon.stop();
}

/// Changes the audio where no tag reader looks, without a word in the tags.
fn spoil_audio(file: &Path) {
    let file = fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(b"other audio", 5_000_000).unwrap();
}

fn other_audio_is_fetched(remote: Remote, file: &str) {
    let played = Played::new(remote, file);
    let before = played.remote.content_bytes();
    spoil_audio(&played.original());
    played.publish(Upload::Whole);
    let expect = Deltas {
        files: 0,
        unproven: 1,
    };
    wait_until("the comparison", || played.deltas() == expect);
    // The name is the same: what is open by it may still be the old version.
    wait_until("the new version", || {
        tree::hash(&played.mounted()) == tree::hash(&played.original())
    });
    assert_eq!(played.remote.content_bytes() - before, played.size());
    assert_eq!(played.deltas(), expect);
    played.daemon.stop();
}

#[test]
fn other_audio_of_the_same_length_is_fetched() {
    let (home, file) = flac();
    other_audio_is_fetched(Remote::s3(home), file);
    let (home, file) = flac();
    other_audio_is_fetched(Remote::sftp_hashing(home), file);
}

#[test]
fn what_was_never_played_is_fetched_like_any_new_file() {
    let (home, file) = flac();
    let remote = Remote::s3(home);
    let daemon = remote.mount_scanned(&[]);
    let played = Played {
        remote,
        daemon,
        file: file.to_owned(),
    };
    let bytes = played.edit("Other", &metaflac(""), Upload::Whole);
    assert_eq!(bytes, played.size());
    let expect = Deltas {
        files: 0,
        unproven: 0,
    };
    assert_eq!(played.deltas(), expect);
    played.daemon.stop();
}
