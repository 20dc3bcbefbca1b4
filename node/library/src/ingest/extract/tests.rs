//! The sample of a file comes with its tags: nothing more is asked of the origin for it.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use musicfs_core::origin::{BoxFuture, ByteStream};
use musicfs_core::version::Validator;
use musicfs_store::{Config, Limits, RealDisk};

use super::*;

const EXTENSIONS: [&str; 8] = ["flac", "mp3", "m4a", "ogg", "opus", "wav", "aiff", "wv"];

/// A file in memory that counts what is asked of it.
struct Memory {
    version: ContentVersion,
    content: Vec<u8>,
    asked: Mutex<Vec<Range<u64>>>,
}

impl Memory {
    fn new(content: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            version: ContentVersion {
                size: content.len() as u64,
                validator: Validator::Mtime(1),
            },
            content,
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<Range<u64>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

struct Once(Option<Bytes>);

impl ByteStream for Once {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, OriginError>> {
        Box::pin(async { Ok(self.0.take()) })
    }
}

impl OriginFile for Memory {
    fn version(&self) -> &ContentVersion {
        &self.version
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream + '_> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(range.clone());
        let bytes = &self.content[range.start as usize..range.end as usize];
        Box::new(Once(Some(Bytes::copy_from_slice(bytes))))
    }

    fn is_unchanged(&self) -> bool {
        true
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A file that starts as one of its kind does, and goes on with what no parser understands.
fn content(extension: &str, size: usize) -> Vec<u8> {
    let magic: &[u8] = match extension {
        "flac" => b"fLaC\0\0\0\x22",
        "mp3" => b"ID3\x04\0\0\0\0\0\x7f",
        "m4a" => b"\0\0\0\x18ftypM4A ",
        "ogg" | "opus" => b"OggS\0\x02",
        "wav" => b"RIFF\xff\xff\0\0WAVEfmt ",
        "aiff" => b"FORM\0\xff\xff\xffAIFFCOMM",
        _ => b"wvpk",
    };
    let noise = (0..size).map(|at| (at * at % 251) as u8);
    let mut content: Vec<u8> = magic.iter().copied().chain(noise).collect();
    content.truncate(size);
    content
}

/// Reads tags and sample of a file; the requests that each needed.
fn read_file(file: &Arc<Memory>, extension: &str, kept: Option<Kept>) -> (Sample, usize, usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let size = file.version.size;
    let mut source = Ranged {
        file: file.clone(),
        runtime: runtime.handle().clone(),
        kept,
        front: Vec::new(),
        failure: None,
        bytes: Arc::default(),
        bytes_read: 0,
    };
    if source.kept.is_some() {
        let first = musicfs_media::first_extents(size, extension);
        source.fetch(&first, Class::Header).unwrap();
    }
    let extraction = musicfs_media::extract(&mut source, extension);
    let layout = extraction.map_or_else(
        |_| musicfs_media::fallback_layout(size, extension),
        |extraction| extraction.layout,
    );
    source.complete(&layout).unwrap();
    let for_tags = file.asked().len();
    let sample = source.sample().unwrap();
    let asked = file.asked();
    let bytes: u64 = asked.iter().map(|range| range.end - range.start).sum();
    assert_eq!(source.bytes_read, bytes);
    assert_eq!(source.bytes.all()[0], (Reason::Scan, bytes));
    let distinct: Extents = asked.iter().cloned().collect();
    let distinct: u64 = distinct.iter().map(|range| range.end - range.start).sum();
    assert_eq!(distinct, bytes, "a byte of {extension} came twice");
    (sample, for_tags, asked.len())
}

#[test]
fn a_sample_costs_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        bodies: 256 << 20,
        headers: 64 << 20,
        free_min: 0,
    };
    let config = Config {
        dir: dir.path().to_owned(),
        limits,
    };
    let store = Store::open(config, Arc::new(RealDisk::default())).unwrap();
    store.recover().unwrap();
    let mut number = 0_u8;
    for extension in EXTENSIONS {
        for size in [1, 5_000, 65_535, 65_536, 65_537, 700_000] {
            let content = content(extension, size);
            let expect = Sample::new(size as u64, &content);
            number += 1;
            let key = VersionKey([number; 16]);
            let keep = Keep {
                store: store.clone(),
                key,
                profile: HeaderProfile::default(),
            };
            for kept in [None, Kept::new(&keep, size as u64)] {
                let is_kept = kept.is_some();
                let file = Memory::new(content.clone());
                let (sample, for_tags, in_all) = read_file(&file, extension, kept);
                assert_eq!(
                    sample, expect,
                    "{extension} of {size} bytes, kept: {is_kept}"
                );
                assert_eq!(
                    for_tags, in_all,
                    "{extension} of {size} bytes, kept: {is_kept}"
                );
            }
        }
    }
}

#[test]
fn what_the_tag_readers_left_out_of_the_front_is_read_for_the_sample() {
    let content = content("flac", 100_000);
    let file = Memory::new(content.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mut source = Ranged {
        file: file.clone(),
        runtime: runtime.handle().clone(),
        kept: None,
        front: Vec::new(),
        failure: None,
        bytes: Arc::default(),
        bytes_read: 0,
    };
    let mut buf = vec![0; 20_000];
    for offset in [20_000, 0, 10_000, 30_000] {
        assert_eq!(source.read_at(offset, &mut buf).unwrap(), 20_000);
    }
    assert_eq!(source.sample().unwrap(), Sample::new(100_000, &content));
    assert_eq!(file.asked().last(), Some(&(50_000..65_536)));
}
