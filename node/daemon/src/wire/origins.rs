//! From the origins of the configuration to ports, and whether they answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use musicfs_core::origin::{Origin, OriginKind};
use musicfs_library::OriginSetup;
use musicfs_origins::{
    LocalConfig, LocalOrigin, MountedConfig, MountedOrigin, S3Config, S3Origin, SftpConfig,
    SftpOrigin,
};
use tokio::task::JoinSet;

use crate::config::{Config, OriginConfig, OriginPlace};
use crate::mount::{MountError, Silence, SilentOrigin};

/// How long a mount without an index waits for the first origin to answer. Shorter than an origin's
/// own timeouts: whoever types `mount` is waiting.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The origins of a configuration, made.
#[derive(Clone, Default)]
pub(crate) struct Origins {
    /// What each was made from, the one to be tried first at the front.
    made: Vec<(OriginConfig, OriginSetup)>,
}

impl Origins {
    /// Makes every origin of the configuration; those that are configured as they were stay the same.
    ///
    /// # Errors
    /// [`MountError::Origin`] for the first that cannot be what its configuration says.
    pub(super) fn make(&self, config: &Config, installation: [u8; 16]) -> Result<Self, MountError> {
        let mut sorted: Vec<&OriginConfig> = config.origins.iter().collect();
        sorted.sort_by_key(|origin| origin.priority);
        let make = |wanted: &OriginConfig| {
            let same = self.made.iter().find(|(known, _)| known == wanted);
            let origin = match same {
                Some((_, setup)) => setup.origin.clone(),
                None => port(wanted, config, installation)?,
            };
            let setup = OriginSetup {
                origin,
                priority: wanted.priority,
                rescan_every: wanted.rescan_every,
            };
            Ok((wanted.clone(), setup))
        };
        let made = sorted
            .into_iter()
            .map(make)
            .collect::<Result<_, MountError>>()?;
        Ok(Self { made })
    }

    /// As the library takes them.
    pub(super) fn setups(&self) -> Vec<OriginSetup> {
        self.made.iter().map(|(_, setup)| setup.clone()).collect()
    }

    /// The ports alone.
    pub(super) fn ports(&self) -> Vec<Arc<dyn Origin>> {
        self.made
            .iter()
            .map(|(_, setup)| setup.origin.clone())
            .collect()
    }
}

fn port(
    origin: &OriginConfig,
    config: &Config,
    installation: [u8; 16],
) -> Result<Arc<dyn Origin>, MountError> {
    let (id, identity) = (origin.id.clone(), origin.identity.clone());
    let excluded = vec![config.mount_point.clone()];
    match (origin.kind, &origin.place) {
        (OriginKind::Local, OriginPlace::Directory(root)) => {
            Ok(Arc::new(LocalOrigin::new(LocalConfig {
                id,
                root: root.clone(),
                identity,
                installation,
                excluded,
            })))
        }
        (kind, OriginPlace::Directory(root)) => Ok(Arc::new(MountedOrigin::new(MountedConfig {
            id,
            kind,
            root: root.clone(),
            identity,
            installation,
            excluded,
        }))),
        (
            _,
            OriginPlace::S3 {
                bucket,
                prefix,
                endpoint,
                region,
                path_style,
                profile,
            },
        ) => {
            let settings = S3Config {
                id: id.clone(),
                endpoint: endpoint.clone(),
                region: region.clone(),
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                path_style: *path_style,
                profile: profile.clone(),
                identity,
            };
            let refused = |source| MountError::Origin { id, source };
            Ok(Arc::new(S3Origin::new(settings).map_err(refused)?))
        }
        (
            _,
            OriginPlace::Sftp {
                host,
                port,
                user,
                root,
                known_hosts,
                key_file,
                hash_command,
            },
        ) => Ok(Arc::new(SftpOrigin::new(SftpConfig {
            id,
            host: host.clone(),
            port: *port,
            user: user.clone(),
            root: root.clone(),
            known_hosts: this_or(known_hosts.as_ref(), &config.ssh.known_hosts),
            key_files: this_or(key_file.as_ref(), &config.ssh.key_files),
            agent_socket: config.ssh.agent_socket.clone(),
            identity,
            hash_command: *hash_command,
        }))),
    }
}

/// The file that was configured, else the usual ones.
fn this_or(file: Option<&PathBuf>, usual: &[PathBuf]) -> Vec<PathBuf> {
    file.map_or_else(|| usual.to_vec(), |file| vec![file.clone()])
}

/// Waits until one of `origins` answers, at most for `timeout`; asks all of them at once.
///
/// # Errors
/// [`MountError::Origins`] with every origin's own reason if none does.
pub(super) async fn check(
    origins: &[Arc<dyn Origin>],
    timeout: Duration,
) -> Result<(), MountError> {
    if origins.is_empty() {
        return Ok(());
    }
    let mut checks = JoinSet::new();
    for (index, origin) in origins.iter().cloned().enumerate() {
        checks.spawn(async move {
            let checked = tokio::time::timeout(timeout, origin.check()).await;
            (index, checked)
        });
    }
    let mut silent: Vec<(usize, Silence)> = Vec::with_capacity(origins.len());
    while let Some(checked) = checks.join_next().await {
        match checked {
            // The others are asked again by whoever scans them.
            Ok((_, Ok(Ok(())))) => return Ok(()),
            Ok((index, Ok(Err(error)))) => silent.push((index, Silence::Error(error))),
            Ok((index, Err(_))) => silent.push((index, Silence::TimedOut(timeout))),
            Err(panic) => tracing::error!(%panic, "the check of an origin ended in a panic"),
        }
    }
    silent.sort_by_key(|(index, _)| *index);
    let name = |(index, why): (usize, Silence)| SilentOrigin {
        id: origins[index].id().clone(),
        kind: origins[index].kind(),
        why,
    };
    Err(MountError::Origins {
        silent: silent.into_iter().map(name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use musicfs_core::id::OriginId;
    use musicfs_core::origin::{BoxFuture, Depth, DirStream, OriginError, OriginFile, Watch};
    use musicfs_core::path::OriginPath;
    use musicfs_core::version::{ContentVersion, OriginKey};

    use super::*;

    /// A server that takes connections and never says a word.
    struct Hanging(OriginId);

    impl Origin for Hanging {
        fn id(&self) -> &OriginId {
            &self.0
        }

        fn kind(&self) -> OriginKind {
            OriginKind::Sftp
        }

        fn key(&self) -> Option<OriginKey> {
            None
        }

        fn display_name(&self) -> String {
            self.0.to_string()
        }

        fn check(&self) -> BoxFuture<'_, Result<(), OriginError>> {
            Box::pin(std::future::pending())
        }

        fn list(&self, _: &OriginPath, _: Depth) -> Box<dyn DirStream> {
            unreachable!("only a check is asked for")
        }

        fn open<'a>(
            &'a self,
            _: &'a OriginPath,
            _: &'a ContentVersion,
        ) -> BoxFuture<'a, Result<Box<dyn OriginFile>, OriginError>> {
            Box::pin(std::future::pending())
        }

        fn watch(&self) -> Result<Option<Box<dyn Watch>>, OriginError> {
            Ok(None)
        }
    }

    fn hanging(id: &str) -> Arc<dyn Origin> {
        Arc::new(Hanging(OriginId::new(id).unwrap()))
    }

    fn local(id: &str, root: &Path) -> Arc<dyn Origin> {
        Arc::new(LocalOrigin::new(LocalConfig {
            id: OriginId::new(id).unwrap(),
            root: root.to_owned(),
            identity: None,
            installation: [0; 16],
            excluded: Vec::new(),
        }))
    }

    #[tokio::test]
    async fn one_origin_that_answers_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let there = || local("there", dir.path());
        let gone = local("gone", &dir.path().join("x"));
        for origins in [
            vec![there()],
            vec![hanging("nas"), there()],
            vec![gone, there()],
        ] {
            // Without an end: a check that waits for the one that hangs never returns.
            check(&origins, Duration::MAX).await.unwrap();
        }
    }

    #[tokio::test]
    async fn servers_that_hang_are_left_after_a_while() {
        let origins = [hanging("nas"), hanging("attic")];
        let error = check(&origins, Duration::from_secs(1)).await.unwrap_err();
        let expect = "use any origin: nas: no answer within 1 s; attic: no answer within 1 s";
        assert_eq!(error.to_string(), expect);
        assert!(error.fix().unwrap().contains("host and port"), "{error}");
    }

    #[tokio::test]
    async fn an_origin_that_is_away_is_named_with_what_to_do() {
        let error = check(
            &[local("music", Path::new("/nonexistent/m"))],
            CHECK_TIMEOUT,
        )
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("use origin music: reach origin root"),
            "{text}"
        );
        assert!(error.fix().unwrap().contains("mount its disk"), "{text}");
    }

    #[test]
    fn origins_are_tried_by_priority_and_then_as_they_are_written() {
        use crate::config::{ConfigFile, Purpose};
        use crate::paths::Environment;
        let text = "mount_point = \"/m\"\n\
                    [[origins]]\nid = \"a\"\npath = \"/nonexistent/a\"\npriority = 7\n\
                    [[origins]]\nid = \"b\"\npath = \"/nonexistent/b\"\n\
                    [[origins]]\nid = \"c\"\npath = \"/nonexistent/c\"\npriority = 7\n\
                    [[origins]]\nid = \"d\"\npath = \"/nonexistent/d\"\npriority = 0\n";
        let environment = Environment {
            home: Some("/home/ann".into()),
            ..Environment::default()
        };
        let typed = ConfigFile::parse(text, Path::new("c.toml")).unwrap();
        let config = Config::resolve(&typed, "default", &environment, Purpose::Mount).unwrap();
        let origins = Origins::default().make(&config, [0; 16]).unwrap().ports();
        let ids: Vec<&str> = origins.iter().map(|origin| origin.id().as_str()).collect();
        assert_eq!(ids, ["d", "b", "a", "c"]);
    }
}
