use super::*;

fn entry(id: Option<&str>, path: &str) -> OriginEntry {
    OriginEntry {
        id: id.map(Into::into),
        path: Some(path.into()),
        ..OriginEntry::default()
    }
}

fn environment() -> Environment {
    Environment {
        home: Some("/home/ann".into()),
        user: Some("ann".into()),
        ..Environment::default()
    }
}

fn resolved(entries: &[OriginEntry]) -> Result<Vec<OriginConfig>, ConfigError> {
    resolve(entries, &environment())
}

/// The only origin of a URL.
fn of_url(url: &str) -> Result<OriginConfig, ConfigError> {
    Ok(resolved(&[parse_location(url)?])?.remove(0))
}

#[test]
fn every_place_has_one_canonical_form() {
    let check = |url: &str, expect: &str, kind: OriginKind, id: &str| {
        let origin = of_url(url).unwrap();
        assert_eq!(origin.place.to_string(), expect, "{url:?}");
        assert_eq!((origin.kind, origin.id.as_str()), (kind, id), "{url:?}");
        assert_eq!(origin.priority, kind.default_priority());
        // And the canonical form is a URL of the same place.
        let again = of_url(expect).unwrap().place;
        assert_eq!(again.canonical(), origin.place.canonical(), "{url:?}");
    };
    use OriginKind::{Local, Nfs, S3, Sftp};
    check("/nonexistent/M//", "/nonexistent/M", Local, "m-9ca290fb");
    check("nfs:///nonexistent/M/", "/nonexistent/M", Nfs, "m-9ca290fb");
    let bare = "s3://Music";
    check("s3://Music//", bare, S3, "music-33ee88a0");
    let reached = "s3://Music?region=eu&path_style=true&profile=home";
    check(reached, bare, S3, "music-33ee88a0");
    let own = "s3://b/Old%20LPs/?endpoint=HTTP://NAS:80/";
    check(
        own,
        "s3://b/Old LPs?endpoint=http://nas",
        S3,
        "old-lps-28c59e16",
    );
    check(
        "sftp://NAS:22/srv//m/",
        "sftp://ann@nas/srv/m",
        Sftp,
        "m-4dc117cb",
    );
    check(
        "sftp://bob@nas:2222/~/m/",
        "sftp://bob@nas:2222/~/m",
        Sftp,
        "m-1ca38d6b",
    );
    check("sftp://nas", "sftp://ann@nas/~", Sftp, "nas-242a9a53");
    check(
        "sftp://a%40b@nas/%7E/m",
        "sftp://a%40b@nas/%7E/m",
        Sftp,
        "m-5c4b7ee9",
    );
    check("s3://b/100%25%3F", "s3://b/100%25%3F", S3, "100-85e99fc0");
    check("sftp://[::0:1]/", "sftp://ann@[::1]/", Sftp, "1-d00886c1");
}

#[test]
fn an_origin_without_id_is_named_after_its_directory_for_ever() {
    let id = |path: &str| implicit_id(&OriginPlace::Directory(path.into()));
    assert_eq!(id("/mnt/My Music!").as_str(), "my-music-0f28b83a");
    assert_ne!(id("/a/m"), id("/b/m"));
    for odd in ["/", "/日本", "/...", &format!("/{}", "x".repeat(200))] {
        assert!(id(odd).as_str().len() <= 49, "{odd:?}");
    }
    let origins = resolved(&[entry(None, "/nonexistent/a")]).unwrap();
    assert!(origins[0].implicit);
    assert_eq!(origins[0].priority, 1);
}

#[test]
fn the_same_place_or_id_twice_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().to_str().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(real, &link).unwrap();
    let link = link.to_str().unwrap();
    let twice = |one: OriginEntry, two: OriginEntry| {
        let got = resolved(&[one, two]);
        let duplicate = matches!(got, Err(ConfigError::DuplicateRoot { .. }));
        assert!(duplicate, "{got:?}");
    };
    twice(entry(Some("a"), real), entry(Some("b"), link));
    twice(entry(None, "/n/a"), entry(None, "/n/a/"));
    let url = |url: &str| parse_location(url).unwrap();
    twice(entry(None, "/n/a"), url("smb:///n/a"));
    twice(url("s3://b/p"), url("s3://b/p/?region=eu"));
    twice(
        url("s3://b?endpoint=http://h:80"),
        url("s3://b?endpoint=http://H"),
    );
    twice(url("sftp://ann@nas/~/m"), url("sftp://NAS:22/~/./m"));
    let got = resolved(&[entry(Some("a"), "/n/a"), entry(Some("a"), "/n/b")]);
    assert!(
        matches!(got, Err(ConfigError::DuplicateId { .. })),
        "{got:?}"
    );
    resolved(&[
        url("s3://b/p"),
        url("s3://B/p"),
        url("s3://b/p?endpoint=http://h"),
    ])
    .unwrap();
}

#[test]
fn a_configured_origin_needs_an_absolute_path_and_a_plain_id() {
    let place = |entry: OriginEntry| resolved(&[entry]).unwrap().remove(0).place;
    let home = OriginPlace::Directory("/home/ann/Music".into());
    assert_eq!(place(entry(Some("a"), "~/Music")), home);
    assert_eq!(place(entry(Some("a"), "file:///home/ann/Music")), home);
    for bad in ["music", "", "nfs:///m", "sftp://nas/m", "s3://b"] {
        assert!(resolved(&[entry(Some("a"), bad)]).is_err(), "{bad:?}");
    }
    assert!(resolved(&[entry(Some("a/b"), "/n")]).is_err());
    assert!(resolved(&[OriginEntry::default()]).is_err());
    let kind = OriginEntry {
        kind: Some("locl".into()),
        ..entry(Some("a"), "/n")
    };
    assert!(resolved(&[kind]).is_err());
}

#[test]
fn a_bucket_and_a_server_are_checked() {
    let s3 = |spoil: fn(&mut OriginEntry)| {
        let mut entry = OriginEntry {
            kind: Some("s3".into()),
            bucket: Some("music".into()),
            ..OriginEntry::default()
        };
        spoil(&mut entry);
        resolved(&[entry])
    };
    s3(|_| {}).unwrap();
    let prefixed = s3(|entry| entry.prefix = Some("/a/b/".into())).unwrap();
    assert_eq!(prefixed[0].place.to_string(), "s3://music/a/b");
    s3(|entry| entry.bucket = None).unwrap_err();
    for bad in ["a//b", "..", "a/./b", "a\0"] {
        let url = format!("s3://music/{}", bad.replace('\0', "%00"));
        assert!(of_url(&url).is_err(), "{bad:?}");
    }
    for bad in ["", "a/b", "a b", "..", "-a", "a?b"] {
        let entry = OriginEntry {
            kind: Some("s3".into()),
            bucket: Some(bad.into()),
            ..OriginEntry::default()
        };
        assert!(resolved(&[entry]).is_err(), "{bad:?}");
    }
    s3(|entry| entry.region = Some(String::new())).unwrap_err();
    s3(|entry| entry.profile = Some("a b".into())).unwrap_err();
    s3(|entry| entry.endpoint = Some("nas:9000".into())).unwrap_err();
    let secret = s3(|entry| entry.endpoint = Some("http://ann:hunter2@nas".into())).unwrap_err();
    assert!(
        matches!(secret, ConfigError::OriginSecret { .. }),
        "{secret}"
    );
    assert!(!format!("{secret:?} {secret}").contains("hunter"));
}

#[test]
fn an_sftp_origin_is_completed_with_the_user_and_the_login_directory() {
    let origin = OriginEntry {
        kind: Some("sftp".into()),
        host: Some("NAS".into()),
        key_file: Some("~/k".into()),
        hash_command: Some("sha256sum".into()),
        ..OriginEntry::default()
    };
    let expect = OriginPlace::Sftp {
        host: "nas".into(),
        port: 22,
        user: "ann".into(),
        root: String::new(),
        known_hosts: None,
        key_file: Some("/home/ann/k".into()),
        hash_command: Some(HashCommand::Sha256),
    };
    assert_eq!(
        resolved(std::slice::from_ref(&origin)).unwrap()[0].place,
        expect
    );
    let nameless = Environment {
        user: None,
        ..environment()
    };
    let error = resolve(std::slice::from_ref(&origin), &nameless).unwrap_err();
    assert!(error.to_string().contains("user is missing"), "{error}");
    let spoilt: [fn(&mut OriginEntry); 10] = [
        |origin| origin.host = None,
        |origin| origin.host = Some("a b".into()),
        |origin| origin.user = Some(String::new()),
        |origin| origin.user = Some("ann:hunter2".into()),
        |origin| origin.port = Some(0),
        |origin| origin.path = Some("sftp://nas/m".into()),
        |origin| origin.key_file = Some("k".into()),
        |origin| origin.known_hosts = Some("k".into()),
        |origin| origin.hash_command = Some("md5sum; true".into()),
        |origin| origin.hash_command = Some(String::new()),
    ];
    for (index, spoil) in spoilt.into_iter().enumerate() {
        let mut origin = origin.clone();
        spoil(&mut origin);
        let error = resolved(&[origin]).expect_err(&index.to_string());
        assert!(!error.to_string().contains("hunter"), "{error}");
    }
}

#[test]
fn a_remote_origin_is_listed_as_often_as_it_is_told() {
    let every = |seconds: Option<u32>| {
        let shared = OriginEntry {
            kind: Some("nfs".into()),
            rescan_seconds: seconds,
            ..entry(None, "/n")
        };
        Ok::<_, ConfigError>(resolved(&[shared])?.remove(0).rescan_every.as_secs())
    };
    assert_eq!(every(None).unwrap(), 900);
    assert_eq!(every(Some(10)).unwrap(), 10);
    assert_eq!(every(Some(u32::MAX)).unwrap(), u64::from(u32::MAX));
    for seconds in [0, 9] {
        let error = every(Some(seconds)).unwrap_err();
        assert!(error.to_string().contains("rescan_seconds"), "{error}");
    }
}

#[test]
fn a_root_is_absolute_or_below_the_login_directory() {
    let check = |typed: &str, expect: &str| {
        assert_eq!(root(typed).as_deref(), Ok(expect), "{typed:?}");
        assert_eq!(
            root(&typed_root(expect)).as_deref(),
            Ok(expect),
            "{typed:?}"
        );
    };
    check("/", "/");
    check("//srv/./m//", "/srv/m");
    check("~", "");
    check("~/", "");
    check(".", "");
    check("~/m", "m");
    check("m/n/", "m/n");
    check("/~/m", "/~/m");
    check("../m", "../m");
}
