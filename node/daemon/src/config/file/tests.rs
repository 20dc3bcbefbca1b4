use std::collections::BTreeSet;

use super::*;

fn error(text: &str) -> String {
    let error = ConfigFile::parse(text, Path::new("c.toml")).unwrap_err();
    match error.fix() {
        Some(fix) => format!("{error}. {fix}"),
        None => error.to_string(),
    }
}

#[test]
fn every_listed_key_is_one_that_the_file_takes_and_no_other() {
    let full = r#"
        mount_point = "/mnt"
        template = "$title"
        root = "Music"
        names = "posix"
        uid = 1
        gid = 2
        umask = "022"
        allow_other = true
        passthrough = "off"
        integrity = "every-read"
        drain_timeout_ms = 10
        cache_dir = "/cache"
        cache_limit = "1G"
        header_limit = "1Mi"
        cache_free_min = "0"
        scanner_profile = "mpd"
        complete_on_play = false
        read_timeout_ms = 2000
        peer_listen = "25252"
        peer_interfaces = ["eth0"]
        peer_mdns = false
        peer_addresses = ["h:25252"]
        peer_dns = ["n:25252"]
        peer_name = "me"
        peer_priority = 11
        peer_upload_limit = "1Mi"
        peer_ca = "/ca"
        peer_cert = "/cert"
        peer_key = "/key"
        metrics_listen = "127.0.0.1:9464"
        log = "debug"
        [[origins]]
        id = "nas"
        type = "local"
        path = "/music"
        priority = 3
        identity = "nas/music"
        [[origins]]
        type = "s3"
        bucket = "b"
        prefix = "p"
        endpoint = "https://h"
        region = "r"
        path_style = true
        profile = "p"
        [[origins]]
        type = "sftp"
        host = "h"
        port = 22
        user = "u"
        known_hosts = "/h"
        key_file = "/k"
        hash_command = "md5sum"
        rescan_seconds = 60
    "#;
    let file = ConfigFile::parse(full, Path::new("c.toml")).unwrap();
    let table: toml::Table = toml::to_string(&file).unwrap().parse().unwrap();
    let mut keys = KEYS.to_vec();
    keys.sort_unstable();
    assert_eq!(table.keys().collect::<Vec<_>>(), keys);
    let mut keys = ORIGIN_KEYS.to_vec();
    keys.sort_unstable();
    let origins = table["origins"].as_array().unwrap().iter();
    let found: BTreeSet<_> = origins.flat_map(|o| o.as_table().unwrap().keys()).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), keys);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
    let got = error("uid = 1\n\ntemplat = \"x\"\n");
    assert!(got.contains("c.toml:3"), "{got}");
    assert!(got.contains("`templat`"), "{got}");
    assert!(got.contains("did you mean `template`?"), "{got}");
    let got = error("drain-timeout-ms = 1");
    assert!(got.contains("did you mean `drain_timeout_ms`?"), "{got}");
    let got = error("\n[[origins]]\npath = \"/m\"\nprio = 1\n");
    assert!(got.contains("c.toml:4"), "{got}");
    assert!(got.contains("did you mean `priority`?"), "{got}");
    let got = error("xyzzy = 1");
    assert!(!got.contains("did you mean"), "{got}");
}

#[test]
fn a_wrong_type_or_syntax_is_named_with_its_line() {
    let got = error("\numask = 22");
    assert!(got.contains("c.toml:2"), "{got}");
    assert!(got.contains("expected a string"), "{got}");
    assert!(error("a = \n").contains("c.toml:1"));
    let got = error("passthrough = \"on\"");
    assert!(got.contains("auto"), "{got}");
    assert!(error("\n\n[[origins]]\npath = 5\n").contains("c.toml:4"));
}

#[test]
fn an_origin_has_the_keys_of_its_type_and_no_other() {
    let check = |text: &str, expect: [&str; 2]| {
        let got = error(&format!("[[origins]]\nid = \"a\"\n{text}"));
        for part in expect {
            assert!(got.contains(part), "{text:?}: {got}");
        }
    };
    check("type = \"sfpt\"", ["c.toml:3", "did you mean \"sftp\"?"]);
    check("type = \"webdav\"", ["c.toml:3", "use \"local\""]);
    check(
        "type = \"S3\"\nbucket = \"b\"",
        ["c.toml:3", "did you mean \"s3\"?"],
    );
    check("type = 5", ["c.toml:3", "expected a string"]);
    check(
        "bucket = \"b\"",
        [
            "c.toml:3: an origin of type \"local\" has no `bucket`",
            "\"s3\"",
        ],
    );
    check(
        "type = \"s3\"\npath = \"/m\"",
        ["c.toml:4", "\"local\" or type = \"nfs\""],
    );
    check(
        "type = \"s3\"\nhost = \"h\"",
        ["no `host`", "type = \"sftp\""],
    );
    check(
        "type = \"sftp\"\nendpoint = \"h\"",
        ["no `endpoint`", "type = \"s3\""],
    );
    check(
        "type = \"nfs\"\nuser = \"u\"",
        ["no `user`", "type = \"sftp\""],
    );
    check(
        "type = \"s3\"\nbuket = \"b\"",
        ["c.toml:4", "did you mean `bucket`?"],
    );
}

#[test]
fn a_secret_is_sent_where_it_belongs_and_never_repeated() {
    let check = |text: &str, expect: [&str; 2]| {
        let refused = ConfigFile::parse(text, Path::new("c.toml")).unwrap_err();
        let got = error(text);
        for part in expect {
            assert!(got.contains(part), "{text:?}: {got}");
        }
        assert!(
            !format!("{refused:?}{got}").contains("hunter"),
            "{text:?}: {got}"
        );
    };
    let s3 = "[[origins]]\ntype = \"s3\"\n";
    for key in [
        "access_key",
        "secret_key",
        "aws_secret_access_key",
        "session-token",
        "key",
    ] {
        check(
            &format!("{s3}{key} = \"hunter2\""),
            ["c.toml:3", "AWS_SECRET_ACCESS_KEY"],
        );
    }
    let sftp = "[[origins]]\ntype = \"sftp\"\n";
    check(
        &format!("{sftp}password = \"hunter2\""),
        ["`password`", "ssh-agent"],
    );
    check(
        &format!("{sftp}key_passphrase = 'hunter2'"),
        ["c.toml:3", "ssh-agent"],
    );
    check(
        "[[origins]]\npassword = \"hunter2\"",
        ["c.toml:2", "path belongs"],
    );
    check("token = \"hunter2\"", ["c.toml:1", "ssh-agent"]);
    check("[credentials]\nx = \"hunter2\"", ["c.toml:1", "secret"]);
}

#[test]
fn what_is_higher_wins_and_silence_lets_the_lower_speak() {
    let parse = |text| ConfigFile::parse(text, Path::new("c.toml")).unwrap();
    let flags = parse("uid = 1\numask = \"027\"");
    let file = parse("uid = 2\ngid = 3\nlog = \"debug\"");
    assert_eq!(
        flags.over(file),
        parse("uid = 1\numask = \"027\"\ngid = 3\nlog = \"debug\"")
    );
}
