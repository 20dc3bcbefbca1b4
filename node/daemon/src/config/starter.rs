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

# Where data of network origins is kept; each instance needs a directory of its own.
#cache_dir = "~/.cache/musicfs/default"

# What whole files may take there: bytes, or with k M G T (1000) or Ki Mi Gi Ti (1024).
#cache_limit = "10Gi"

# What the parts that tag readers touch may take on top, so that a media server's scan costs the
# origins nothing. By default the smaller of 40Gi and 15 % of the free disk.
#header_limit = "20Gi"

# What to leave free on that disk, whatever the limits say.
#cache_free_min = "1Gi"

# For whose scans these parts are chosen: "default", or "mpd", which takes two to four times
# the room.
#scanner_profile = "default"

# Fetch a file to its end once it is played, so that playing it again costs the origin nothing.
#complete_on_play = true

# How long a read may take before it fails, in milliseconds.
#read_timeout_ms = 10000

# Other nodes of a cluster (`musicfs cluster init`, `musicfs cluster join`) serve what they hold ahead
# of S3 and SFTP. Where they reach this one: a port, or an address with one.
#peer_listen = "25252"

# The network interfaces to look for other nodes on; by default all.
#peer_interfaces = ["eth0"]

# Find other nodes on the local network by mDNS.
#peer_mdns = true

# Nodes that are always tried, and DNS names of which every address is a node.
#peer_addresses = ["kitchen.lan:25252"]
#peer_dns = ["musicfs.media.svc:25252"]

# What this node is called among others; by default the host's name.
#peer_name = "living room"

# Where other nodes stand among the origins; lower is tried first.
#peer_priority = 10

# What to send to other nodes at most, in bytes per second; by default there is no limit.
#peer_upload_limit = "10Mi"

# A PKI of one's own in place of the cluster's key: authorities, certificate, and its key.
#peer_ca = "/etc/musicfs/ca.pem"
#peer_cert = "/etc/musicfs/node.pem"
#peer_key = "/etc/musicfs/node.key"
# Where monitors find health (gRPC) and metrics (HTTP, /metrics); whoever reaches it may ask. Off by
# default.
#metrics_listen = "127.0.0.1:9464"

# What is logged: error, warn, info, debug, trace, or a filter such as "info,musicfs_origins=debug".
#log = "info"

# Where music comes from; as many as there are. A directory of this machine:
#[[origins]]
#id = "music"
#type = "local"
#path = "/srv/music"
# Lower is tried first; by default local 1, nfs and smb 5, s3 and sftp 20.
#priority = 1

# A mounted share is "nfs" or "smb" instead of "local": it is cached, and not watched.

# A bucket. Credentials come from the environment or from ~/.aws, never from here.
#[[origins]]
#id = "backup"
#type = "s3"
#bucket = "music-backup"
#prefix = "flac"
#endpoint = "https://s3.example.net"
#region = "eu-central-1"
# The bucket's name in the path instead of the host, for servers that want it.
#path_style = true
# A profile of ~/.aws.
#profile = "music"

# A directory of an SFTP server, with a key of ssh-agent or ~/.ssh. The host must be in known_hosts.
#[[origins]]
#id = "nas"
#type = "sftp"
#host = "nas.example.net"
#port = 22
#user = "music"
# Absolute, or ~/… below the login directory.
#path = "/srv/music"
#known_hosts = "~/.ssh/known_hosts"
#key_file = "~/.ssh/id_ed25519"
# A program of the server that this user may run there: "md5sum", "sha1sum" or "sha256sum". With it,
# a file of which only the tags changed is fetched in part.
#hash_command = "md5sum"
# How often it is listed to find changes, in seconds; every type but "local" has this.
#rescan_seconds = 900
"##;
