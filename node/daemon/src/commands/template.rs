//! `musicfs template test`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use musicfs_core::names::NameProfile;
use musicfs_core::tags::{AudioProperties, Codec, Date, Tags, TrackInfo};
use musicfs_core::template::{Template, TrackFacts};
use musicfs_media::{ExtractError, RangedRead};
use serde_json::json;

use super::Context;
use crate::cli::TemplateCommand;
use crate::config::{self, ConfigFile, Purpose};
use crate::error::Error;
use crate::output::plain;

/// Prints where files, or a sample track, would appear.
pub(super) fn run(context: &Context, command: &TemplateCommand) -> Result<(), Error> {
    let TemplateCommand::Test {
        template,
        names,
        files,
    } = command;
    let (file, _) = config::load(context.config.as_deref(), &context.environment)?;
    // Of the file only what is tried here: an origin that is wrong would be in the way.
    let typed = ConfigFile {
        template: template.clone().or(file.template),
        names: names.clone().or(file.names),
        ..ConfigFile::default()
    };
    let config = context.resolve(&typed, Purpose::Check)?;
    let show = |track: &Track| {
        let path = track.render(&config.template, config.names).join("/");
        let source = track.source.as_ref().map(|path| path.to_string_lossy());
        let value = json!({ "file": source, "path": path, "readable": !track.unreadable });
        context.format.line(&value, || match &source {
            Some(source) => format!("{} -> {}\n", plain(source), plain(&path)),
            None => format!("{}\n", plain(&path)),
        })
    };
    if files.is_empty() {
        return show(&sample());
    }
    files.iter().try_for_each(|file| show(&read(file)?))
}

/// One track to try a template on.
struct Track {
    source: Option<PathBuf>,
    info: TrackInfo,
    stem: String,
    extension: String,
    unreadable: bool,
}

impl Track {
    fn render(&self, template: &Template, names: NameProfile) -> Vec<String> {
        let tags = &self.info.tags;
        let facts = TrackFacts {
            tags,
            audio: &self.info.audio,
            stem: &self.stem,
            extension: &self.extension,
            // The mount knows the whole album; here the track itself has to tell.
            multi_disc: tags.disc_total.or(tags.disc).unwrap_or(1) > 1,
            unreadable: self.unreadable,
        };
        template.render(&facts, names)
    }
}

/// A track with a value in every field that templates commonly use.
fn sample() -> Track {
    let tags = Tags {
        title: Some("Blue Hour".into()),
        artists: vec!["Mara Lind".into(), "The Quiet Ones".into()],
        album: Some("Harbour Lights".into()),
        album_artists: vec!["Mara Lind".into()],
        genres: vec!["Jazz".into()],
        date: Date::parse("1997-06-16"),
        track: Some(3),
        track_total: Some(9),
        disc: Some(2),
        disc_total: Some(2),
        ..Tags::default()
    };
    let audio = AudioProperties {
        codec: Codec::Flac,
        duration_ms: 241_000,
        bitrate: 912_000,
        sample_rate: 44_100,
        bit_depth: 16,
        channels: 2,
    };
    Track {
        source: None,
        info: TrackInfo {
            tags,
            audio,
            artwork: Vec::new(),
        },
        stem: "03 blue hour".into(),
        extension: "flac".into(),
        unreadable: false,
    }
}

fn read(path: &Path) -> Result<Track, Error> {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = text(path.extension()).to_lowercase();
    let opened = open(path).map_err(|source| Error::Io {
        action: "read the tags of",
        path: path.to_owned(),
        source,
    })?;
    let extracted = musicfs_media::extract(&mut { opened }, &extension);
    let (info, unreadable) = match extracted {
        Ok(extraction) => (extraction.info, false),
        Err(source @ ExtractError::Io { .. }) => {
            return Err(Error::Tags {
                path: path.to_owned(),
                source,
            });
        }
        // What is no audio file keeps its name in the mount, too.
        Err(_) => (TrackInfo::default(), true),
    };
    Ok(Track {
        source: Some(path.to_owned()),
        info,
        stem: text(path.file_stem()),
        extension,
        unreadable,
    })
}

/// A file whose length is known.
struct OpenFile {
    file: File,
    len: u64,
}

fn open(path: &Path) -> io::Result<OpenFile> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let len = metadata.len();
    Ok(OpenFile { file, len })
}

impl RangedRead for OpenFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self
                .file
                .read_at(&mut buf[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_shows_every_part_of_the_default_template() {
        let template = Template::parse(Template::DEFAULT).unwrap();
        let path = sample().render(&template, NameProfile::Windows).join("/");
        let expect = "Mara Lind/Harbour Lights (1997) [FLAC]/Disc 2/03 - Blue Hour.flac";
        assert_eq!(path, expect);
    }

    #[test]
    fn a_file_without_tags_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise.FLAC");
        std::fs::write(&path, b"no audio at all").unwrap();
        let track = read(&path).unwrap();
        assert!(track.unreadable);
        let template = Template::parse(Template::DEFAULT).unwrap();
        let name = track.render(&template, NameProfile::Windows).pop().unwrap();
        assert!(name.starts_with("noise."), "{name}");
        assert!(read(&dir.path().join("missing.flac")).is_err());
    }
}
