//! Makes the calls that the state machine asks for, at the times it names.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::{Id, JoinSet};

use super::{rotation::Call, shared::Shared};
use crate::{CertificateAuthority, IssueError, IssueFault, IssuedSvid};

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) authority: Arc<dyn CertificateAuthority>,
    pub(super) lifetime: Duration,
    pub(super) call_timeout: Duration,
}

impl Driver {
    /// Runs until it is dropped, which aborts the calls under way.
    pub(super) async fn run(self) {
        let mut calls: JoinSet<Result<IssuedSvid, IssueError>> = JoinSet::new();
        let mut under_way: HashMap<Id, Call> = HashMap::new();
        loop {
            let (to_start, next) = self.shared.advance();
            for call in to_start {
                let task = calls.spawn(self.issue(&call));
                under_way.insert(task.id(), call);
            }
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = calls.join_next_with_id() => {
                    let (task, answer) = match ended {
                        Ok((task, answer)) => (task, answer),
                        Err(lost) => (lost.id(), Err(IssueError::new(IssueFault::Local, "the call panicked"))),
                    };
                    if let Some(call) = under_way.remove(&task) {
                        self.shared.answer(&call, answer);
                    }
                }
                () = self.shared.wake.notified() => {}
                () = timer => {}
            }
        }
    }

    fn issue(&self, call: &Call) -> impl Future<Output = Result<IssuedSvid, IssueError>> + use<> {
        let Self { lifetime, call_timeout, .. } = *self;
        let (authority, id) = (Arc::clone(&self.authority), call.id.clone());
        async move {
            match tokio::time::timeout(call_timeout, authority.issue(&id, lifetime)).await {
                Ok(answer) => answer,
                Err(_elapsed) => {
                    let text = format!("no answer within {} ms", call_timeout.as_millis());
                    Err(IssueError::new(IssueFault::Deadline, text))
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.close();
    }
}
