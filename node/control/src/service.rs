//! The service `musicfs.v1.MusicFS`.

mod cache;
mod events;
pub(crate) mod origins;

use std::pin::Pin;
use std::time::Duration;

use musicfs_core::id::OriginId;
use musicfs_library::{OriginStatus, Phase};
use musicfs_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::error::status;
use crate::{ControlContext, ReloadOrder, ShutdownOrder};
use origins::{origin_health, origin_info, peer_health, peer_info, sync_progress};

/// Progress messages that wait for a slow client; older ones are dropped for newer.
const PROGRESS_MAX: usize = 16;

/// How often the progress of a scan is told at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What a call answers.
pub(crate) type Answer<T> = Result<Response<T>, Status>;
/// What a call that answers more than once answers.
pub(crate) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers the calls.
pub(crate) struct Service {
    context: ControlContext,
}

impl Service {
    pub(crate) fn new(context: ControlContext) -> Self {
        Self { context }
    }

    fn state(&self) -> v1::MountState {
        if self.context.stopping.is_cancelled() {
            v1::MountState::Unmounting
        } else if self.context.library.is_syncing() {
            v1::MountState::Syncing
        } else if self.context.library.is_degraded() {
            v1::MountState::Degraded
        } else {
            v1::MountState::Ready
        }
    }

    fn origins(&self) -> Result<Vec<OriginStatus>, Status> {
        self.context
            .library
            .origins()
            .map_err(|error| status(&error))
    }
}

/// What a later version will answer.
fn not_offered<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!(
        "{what} is not in this version of musicfs"
    )))
}

fn unknown(what: &str, number: i32) -> Status {
    Status::invalid_argument(format!("{number} is no {what} that this version knows"))
}

fn parse_id(text: &str) -> Result<OriginId, Status> {
    OriginId::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[tonic::async_trait]
impl v1::music_fs_server::MusicFs for Service {
    async fn get_status(&self, _: Request<()>) -> Answer<v1::StatusResponse> {
        let mount = &self.context.mount;
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.context.started.elapsed().as_secs(),
            mount_point: mount.mount_point().to_string_lossy().into_owned(),
            state: self.state().into(),
            open_file_handles: u32::try_from(mount.open_file_handles()).unwrap_or(u32::MAX),
            fuse_ops_total: mount.fuse_ops_total(),
        }))
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Answer<()> {
        let request = request.into_inner();
        let drain = match request.drain_timeout_ms {
            _ if request.force => Duration::ZERO,
            0 => self.context.drain_default,
            ms => Duration::from_millis(ms.into()),
        };
        // A full queue means that a shutdown is already under way.
        let _ = self.context.shutdown.try_send(ShutdownOrder { drain });
        Ok(Response::new(()))
    }

    async fn list_origins(&self, _: Request<()>) -> Answer<v1::OriginsResponse> {
        let mut origins: Vec<_> = self.origins()?.into_iter().map(origin_info).collect();
        if let Some(peers) = self.context.library.peers() {
            origins.extend(peers.list().iter().map(peer_info));
        }
        Ok(Response::new(v1::OriginsResponse { origins }))
    }

    async fn get_origin_health(
        &self,
        request: Request<v1::OriginRequest>,
    ) -> Answer<v1::OriginHealth> {
        let id = parse_id(&request.into_inner().origin_id)?;
        let found = self
            .origins()?
            .into_iter()
            .find(|origin| origin.row.name == id.as_str());
        if let Some(origin) = found {
            return Ok(Response::new(origin_health(origin.health)));
        }
        match origins::peer(&self.context.library, id.as_str()) {
            Some(peer) => Ok(Response::new(peer_health(&peer))),
            None => Err(Status::not_found(format!("no origin is called {id}"))),
        }
    }

    type RescanOriginStream = Streamed<v1::SyncProgress>;

    async fn rescan_origin(
        &self,
        request: Request<v1::OriginRequest>,
    ) -> Answer<Self::RescanOriginStream> {
        let id = parse_id(&request.into_inner().origin_id)?;
        origins::no_peer(&self.context.library, &id, "rescanned")?;
        let mut progress = self
            .context
            .library
            .progress(&id)
            .map_err(|error| status(&error))?;
        let library = self.context.library.clone();
        let (sender, receiver) = mpsc::channel(PROGRESS_MAX);
        tokio::spawn(async move {
            let scan = library.rescan(&id);
            tokio::pin!(scan);
            let mut ticks = tokio::time::interval(PROGRESS_EVERY);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut scan => break outcome,
                    _ = ticks.tick() => {
                        let now = progress.borrow_and_update().clone();
                        if now.phase != Phase::Complete {
                            // A client that is behind gets the next one.
                            let _ = sender.try_send(Ok(sync_progress(&id, &now)));
                        }
                    }
                }
            };
            let last = match outcome {
                Ok(outcome) => {
                    let mut last = sync_progress(&id, &progress.borrow());
                    last.phase = v1::SyncPhase::Complete.into();
                    last.complete = true;
                    last.error = outcome.err();
                    Ok(last)
                }
                Err(error) => Err(status(&error)),
            };
            // The client may be gone; the scan is done all the same.
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn forget_origin(
        &self,
        request: Request<v1::OriginRequest>,
    ) -> Answer<v1::ForgetOriginResponse> {
        let id = parse_id(&request.into_inner().origin_id)?;
        origins::no_peer(&self.context.library, &id, "forgotten")?;
        let removed = self
            .context
            .library
            .forget(&id)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(v1::ForgetOriginResponse {
            entries_removed: removed,
        }))
    }

    async fn get_cache_stats(&self, _: Request<()>) -> Answer<v1::CacheStats> {
        cache::stats(&self.context.library)
    }

    async fn clear_cache(
        &self,
        request: Request<v1::ClearCacheRequest>,
    ) -> Answer<v1::ClearCacheResponse> {
        cache::clear(&self.context.library, request.into_inner()).await
    }

    type PrefetchStream = Streamed<v1::PrefetchProgress>;

    async fn prefetch(
        &self,
        request: Request<v1::PrefetchRequest>,
    ) -> Answer<Self::PrefetchStream> {
        cache::prefetch(&self.context.library, request.into_inner())
    }

    async fn search(&self, _: Request<v1::SearchRequest>) -> Answer<v1::SearchResponse> {
        not_offered("search")
    }

    type SearchStreamStream = Streamed<v1::SearchResult>;

    async fn search_stream(
        &self,
        _: Request<v1::SearchRequest>,
    ) -> Answer<Self::SearchStreamStream> {
        not_offered("search")
    }

    type SubscribeEventsStream = Streamed<v1::Event>;

    async fn subscribe_events(
        &self,
        request: Request<v1::EventFilter>,
    ) -> Answer<Self::SubscribeEventsStream> {
        let events = self.context.library.events();
        events::subscribe(events, request.into_inner(), self.context.stopping.clone())
    }

    async fn pin(&self, request: Request<v1::PinRequest>) -> Answer<v1::PinResponse> {
        cache::pin(&self.context.library, request.into_inner()).await
    }

    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Answer<v1::UnpinResponse> {
        cache::unpin(&self.context.library, request.into_inner()).await
    }

    async fn list_pins(&self, _: Request<()>) -> Answer<v1::PinsResponse> {
        cache::pins(&self.context.library).await
    }

    type VerifyStream = Streamed<v1::VerifyProgress>;

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<Self::VerifyStream> {
        cache::verify(&self.context.library, &request.into_inner())
    }

    async fn reload(&self, _: Request<()>) -> Answer<v1::ReloadResponse> {
        let (reply, outcome) = oneshot::channel();
        let closing = |_| Status::unavailable("the daemon is ending");
        let order = ReloadOrder { reply };
        self.context
            .reload
            .send(order)
            .await
            .map_err(|_| closing(()))?;
        let outcome = outcome.await.map_err(|_| closing(()))?;
        let outcome = outcome.map_err(Status::failed_precondition)?;
        let names = |ids: &[OriginId]| ids.iter().map(ToString::to_string).collect();
        let is_changed = !outcome.reloaded.is_nothing();
        Ok(Response::new(v1::ReloadResponse {
            origins_added: names(&outcome.reloaded.added),
            origins_removed: names(&outcome.reloaded.removed),
            keys_applied: is_changed
                .then(|| "origins".to_owned())
                .into_iter()
                .collect(),
            keys_deferred: outcome.keys_deferred,
        }))
    }
}
