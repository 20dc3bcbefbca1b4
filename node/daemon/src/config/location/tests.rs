use super::*;

#[test]
fn a_location_without_scheme_is_a_path_whatever_it_holds() {
    for path in ["/music", "rel/dir", "/a://b", "a b://c", "/x?y#z%"] {
        let entry = parse_location(path).unwrap();
        assert_eq!((entry.path.as_deref(), entry.kind), (Some(path), None));
    }
}

#[test]
fn the_url_of_a_directory_is_its_path() {
    let check = |text: &str, kind: &str, path: &str| {
        let expect = OriginEntry {
            kind: Some(kind.into()),
            path: Some(path.into()),
            ..OriginEntry::default()
        };
        assert_eq!(parse_location(text).unwrap(), expect, "{text:?}");
    };
    check("file:///my%20music", "local", "/my music");
    check("file://localhost/m", "local", "/m");
    check("NFS:///mnt/share", "nfs", "/mnt/share");
    check("smb:///mnt/%E6%97%A5", "smb", "/mnt/日");
    check("file:///a/../%2e%2e/b%3F%23", "local", "/a/../../b?#");
}

#[test]
fn the_url_of_a_bucket_names_server_and_prefix() {
    let text = "s3://Music/a%20b/c/?endpoint=http://127.0.0.1:9000&region=eu-1\
                &path_style=true&profile=home";
    let expect = OriginEntry {
        kind: Some("s3".into()),
        bucket: Some("Music".into()),
        prefix: Some("a b/c".into()),
        endpoint: Some("http://127.0.0.1:9000".into()),
        region: Some("eu-1".into()),
        path_style: Some(true),
        profile: Some("home".into()),
        ..OriginEntry::default()
    };
    assert_eq!(parse_location(text).unwrap(), expect);
    let bare = parse_location("s3://music").unwrap();
    assert_eq!((bare.bucket.as_deref(), bare.prefix), (Some("music"), None));
}

#[test]
fn the_url_of_an_sftp_directory_is_absolute_or_below_the_login_directory() {
    let check = |text: &str, user: Option<&str>, host: &str, port: Option<u16>, path: &str| {
        let expect = OriginEntry {
            kind: Some("sftp".into()),
            user: user.map(Into::into),
            host: Some(host.into()),
            port,
            path: Some(path.into()),
            ..OriginEntry::default()
        };
        assert_eq!(parse_location(text).unwrap(), expect, "{text:?}");
    };
    check(
        "sftp://ann@nas:2222/srv/m",
        Some("ann"),
        "nas",
        Some(2222),
        "/srv/m",
    );
    check("sftp://nas/~/m%25", None, "nas", None, "~/m%");
    check("sftp://nas/~", None, "nas", None, "~");
    check("sftp://nas", None, "nas", None, "~");
    check("sftp://nas/", None, "nas", None, "/");
    check("sftp://nas/~ann/m", None, "nas", None, "/~ann/m");
    check("sftp://nas/%7E/m", None, "nas", None, "/~/m");
    check(
        "sftp://a%40b@[fe80::1%25eth0]:22/",
        Some("a@b"),
        "fe80::1%eth0",
        Some(22),
        "/",
    );
    let entry = parse_location("sftp://nas/m?key_file=/k&known_hosts=~/h&hash_command=x").unwrap();
    assert_eq!(entry.key_file, Some("/k".into()));
    assert_eq!(entry.known_hosts, Some("~/h".into()));
    assert_eq!(entry.hash_command.as_deref(), Some("x"));
}

#[test]
fn a_wrong_url_is_refused_with_a_reason() {
    let check = |text: &str, expect: &str| {
        let error = parse_location(text).unwrap_err();
        let got = format!("{error}. {}", error.fix().unwrap_or_default());
        assert!(got.contains(expect), "{text:?}: {got}");
    };
    check("", "empty");
    check("ftp://x/y", "scheme is unknown");
    check("local:///x", "file:///path");
    check("file://host/m", "takes no host");
    check("file://", "takes no host");
    check("nfs://server/export", "nfs:///path");
    check("smb:///m?vers=3", "%3F");
    check("file:///a#b", "%23");
    check("file:///%zz", "hexadecimal");
    check("file:///%+1", "hexadecimal");
    check("file:///%e", "hexadecimal");
    check("file:///%ff", "UTF-8");
    check("file:///%00", "NUL");
    check("s3://b?endpont=http://x", "did you mean `endpoint`?");
    check("s3://b?region", "key=value");
    check("s3://b?region=a&region=b", "twice");
    check("s3://b?path_style=1", "true or false");
    check("s3://host:9000/bucket", "?endpoint=");
    check("sftp://nas:0/m", "1 to 65535");
    check("sftp://nas:65536/m", "1 to 65535");
    check("sftp://nas:+22/m", "1 to 65535");
    check("sftp://nas:/m", "1 to 65535");
    check("sftp://[::1/m", "']'");
    check("sftp://[::1]x/m", "no port");
    check("sftp://nas/m?keyfile=/k", "did you mean `key_file`?");
}

#[test]
fn a_secret_in_a_url_is_refused_and_never_repeated() {
    let check = |text: &str, is_secret: bool| {
        let error = parse_location(text).unwrap_err();
        let refused = matches!(error, ConfigError::OriginSecret { .. });
        assert_eq!(refused, is_secret, "{text:?}: {error}");
        let fix = error.fix().unwrap_or_default();
        for said in [error.to_string(), fix.clone(), format!("{error:?}")] {
            assert!(!said.contains("hunter"), "{text:?}: {said}");
        }
        assert!(!is_secret || !fix.is_empty(), "{text:?}");
    };
    check("sftp://ann:hunter2@nas/m", true);
    check("sftp://ann:@nas/m", true);
    check("sftp://ann:hun@hunter2@nas/m", true);
    check("sftp://ann:hunter#2@nas/m", true);
    check("smb://ann:hunter2@nas/share", true);
    check("s3://b?endpoint=http://ann:hunter2@nas", true);
    check("s3://b?endpoint=http%3A//ann%3Ahunter2%40nas", true);
    check("s3://AKIAhunter@bucket/x", true);
    check("s3://AKIA:hunter2@bucket/x", true);
    check("s3://b?access_key=hunter2", true);
    check("s3://b?region=x&secret_access_key=hunter2&bad", true);
    check("s3://b?AWSAccessKeyId=hunter2", true);
    check("s3://b?X-Amz-Signature=hunter2", true);
    check("s3://b/x?session-token=hunter2@x", true);
    check("sftp://nas/m?password=hunter2", true);
    // Not understood as what they were meant to be, and not repeated either.
    check("sftp://ann:hunter/2@nas/m", false);
    check("sftp://ann:hunter?2@nas/m", false);
    check("sftp://ann:x?hunter=2@nas/m", false);
    check("sftp://ann:hunter2", false);
    check("ftp://ann:hunter2@nas/m", false);
    check("s3://b?hunter2", false);
}

#[test]
fn what_is_shown_of_a_url_still_says_which_one_it_is() {
    let check = |text: &str, expect: &str| assert_eq!(redacted(text), expect);
    check("/a:b@c?d", "/a:b@c?d");
    check("sftp://ann@nas:22/m", "sftp://ann@nas:22/m");
    check("sftp://ann:pw@nas/m", "sftp://ann:…@nas/m");
    check("s3://b/p?endpoint=http://x", "s3://b/p?…");
    check("sftp://[::1]:22/m", "sftp://[::1]:22/m");
}

#[test]
fn secrets_are_known_by_their_names() {
    for secret in [
        "access_key",
        "Secret-Key",
        "password",
        "aws_session_token",
        "pw",
        "key",
    ] {
        assert!(is_secret(secret), "{secret}");
    }
    for plain in ["key_file", "known_hosts", "profile", "passthrough", "path"] {
        assert!(!is_secret(plain), "{plain}");
    }
}
