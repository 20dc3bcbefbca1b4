//! The file that `musicfs config init` writes.

/// A configuration with every key explained and none in force.
///
/// A line that starts with `#` and no space behind it is a key that can be put in force by removing
/// the `#`; the values shown are the defaults, or examples where there is no default.
pub(crate) const STARTER: &str = r##"# Configuration of MusicFS. Everything here may also be a flag of `musicfs mount` or an
# environment variable: allow_other is --allow-other and MUSICFS_ALLOW_OTHER. A flag wins over the
# environment, which wins over this file. `musicfs config check` tells whether it is right.

# Where the library appears.
#mount_point = "/mnt/music"

# Where each track appears, made of its tags. Try one with `musicfs template test --template …`.
#template = "${albumartist|artist}/$album%opt{ ($year)} [$format_upper]/%opt{$disc_dir/}$track - $title.$format"

# Put the whole tree into one directory.
#root = "Music"

# What names may hold: "posix" (all but / and control characters), "windows" (also fit for SMB
# clients) or "fat" (also fit for old players).
#names = "windows"

# The owner shown; by default the user that mounts.
#uid = 1000
#gid = 1000

# Permission bits to take away, in octal.
#umask = "000"

# Let other users in. Without root this needs `user_allow_other` in /etc/fuse.conf.
#allow_other = false

# Let the kernel read local files itself ("auto") or not ("off"). Costs the daemon its view of
# single reads; needs root and Linux 6.9, and is left out without them.
#passthrough = "auto"

# Check data at its first read since the start ("first-read") or always ("every-read", which turns
# passthrough off and hashes every byte that is read).
#integrity = "first-read"

# How long reads may go on after the end was asked for, in milliseconds.
#drain_timeout_ms = 5000

# What is logged: error, warn, info, debug, trace, or a filter such as "info,musicfs_origins=debug".
#log = "info"

# Where music comes from; as many as there are. Only "local" directories in this version.
#[[origins]]
#id = "music"
#type = "local"
#path = "/srv/music"
# Lower is tried first.
#priority = 1
"##;
