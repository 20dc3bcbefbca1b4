//! Which files belong to a library, told by the ends of their names.

/// Audio whose tags are read.
const AUDIO: [&str; 23] = [
    "aac", "aif", "aifc", "aiff", "ape", "fla", "flac", "m4a", "m4b", "m4p", "m4r", "mp1", "mp2",
    "mp3", "mp4", "mpc", "mpga", "oga", "ogg", "opus", "wav", "wave", "wv",
];

/// Files that accompany an album.
const COMPANIONS: [&str; 24] = [
    "accurip", "avif", "bmp", "cue", "gif", "heic", "jpe", "jpeg", "jpg", "jxl", "log", "lrc",
    "m3u", "m3u8", "md5", "nfo", "pdf", "png", "sfv", "srt", "tif", "tiff", "txt", "webp",
];

/// Whether a file with this extension (without the dot, in any case) is audio of the library.
pub fn is_audio(extension: &str) -> bool {
    holds(&AUDIO, extension)
}

/// Whether a file with this extension (without the dot, in any case) accompanies an album:
/// pictures, lyrics, cue sheets, booklets, logs, checksums, playlists.
pub fn is_companion(extension: &str) -> bool {
    holds(&COMPANIONS, extension)
}

fn holds(sorted: &[&str], extension: &str) -> bool {
    let extension = extension.to_ascii_lowercase();
    sorted.binary_search(&extension.as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_disjoint() {
        assert!(AUDIO.is_sorted());
        assert!(COMPANIONS.is_sorted());
        assert!(AUDIO.iter().all(|name| !is_companion(name)));
    }

    #[test]
    fn extensions_are_told_apart_in_any_case() {
        for name in ["flac", "FLAC", "mp3", "m4a", "ogg", "opus", "wav", "aiff"] {
            assert!(is_audio(name), "{name}");
        }
        for name in ["jpg", "PNG", "lrc", "cue", "pdf", "log"] {
            assert!(is_companion(name), "{name}");
        }
        for name in ["", "exe", "db", "part", "flac2"] {
            assert!(!is_audio(name) && !is_companion(name), "{name}");
        }
    }
}
