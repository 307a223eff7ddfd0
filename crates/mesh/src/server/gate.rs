//! The two bootstraps: log in, and attach another stream.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use lm_schema::mesh_capnp::{attach, attached, credential, gate, grant, peer_facts};
use lm_schema::{BATCH_VERSION, batch};
use tokio::sync::oneshot;

use super::{Admission, Capability, Peer, Shared};
use crate::activity::Activity;
use crate::ledger::{Root, told};
use crate::link::Link;
use crate::network::{MeshLimits, StreamLimits, Terms};
use crate::session::Holdings;
use crate::tickets::{Attachment, Tickets};
use crate::{PeerDescription, Principal, Remote, Role, Session};

/// A login that was granted. Dropping the root ends what it was granted.
pub(super) struct LoggedIn {
    pub peer: Rc<Peer>,
    pub root: Root,
}

/// The bootstrap of a control stream.
pub(super) fn client(
    shared: Arc<Shared>,
    link: Link,
    terms: Rc<Terms>,
    admitted: oneshot::Sender<LoggedIn>,
) -> capnp::capability::Client {
    let server = GateServer { shared, link, terms, admitted: RefCell::new(Some(admitted)) };
    let gate: gate::Client = capnp_rpc::new_client(server);
    gate.client
}

struct GateServer {
    shared: Arc<Shared>,
    link: Link,
    /// Of the stream that it is the bootstrap of.
    terms: Rc<Terms>,
    /// Taken by the first login, right or wrong: there is no second try on
    /// one connection.
    admitted: RefCell<Option<oneshot::Sender<LoggedIn>>>,
}

/// The same words for an unknown, a malformed and a missing token.
const DENIED: &str = "denied: the credential is not known here; check the token file";

impl gate::Server for GateServer {
    async fn login(
        self: Rc<Self>,
        params: gate::LoginParams,
        results: gate::LoginResults,
    ) -> Result<(), capnp::Error> {
        self.log_in(params, results).await.map_err(told)
    }
}

impl GateServer {
    async fn log_in(
        &self,
        params: gate::LoginParams,
        mut results: gate::LoginResults,
    ) -> Result<(), capnp::Error> {
        let admitted = self
            .admitted
            .borrow_mut()
            .take()
            .ok_or_else(|| capnp::Error::failed("invalid: one login a connection".to_owned()))?;
        let params = params.get()?;
        let principal =
            self.verify(params.get_credential()?).inspect_err(|_| self.shared.registry.login_refused())?;
        let (peer, root) = self.describe(params.get_peer()?, principal)?;
        // Once more, now that the ledger knows it: a token that was taken away
        // in between was revoked without this session.
        let still = self.verify(params.get_credential()?)?;
        if still != peer.session.principal {
            return Err(capnp::Error::failed(DENIED.to_owned()));
        }
        let peer = Rc::new(peer);
        let admission = self.shared.host.clone().admit(peer.clone()).await.map_err(|refusal| {
            self.shared.registry.login_refused();
            tracing::warn!(peer = %peer.session.principal.name, code = refusal.code, "login refused: {}", refusal.message);
            capnp::Error::failed(format!("{}: {}", refusal.code, refusal.message))
        })?;
        write_grant(&peer.session, admission, results.get().init_grant());
        // Before the peer reads that it may.
        self.terms.change(self.shared.registry.limits().control, None);
        self.link.trust();
        // The receiver waits until the deadline; when it is gone, so is the connection.
        let _ = admitted.send(LoggedIn { peer, root });
        Ok(())
    }

    fn verify(&self, from: credential::Reader<'_>) -> Result<Principal, capnp::Error> {
        let found = match (from.which()?, self.link.path().remote) {
            (credential::Bearer(token), _) => self.shared.credentials.verify(token?.to_str()?),
            // The kernel vouches for a process of this host.
            (credential::None(()), Remote::Local { uid, .. }) => return local_operator(uid),
            (credential::None(()), Remote::Socket(_)) => None,
        };
        found.ok_or_else(|| {
            tracing::warn!("login refused: unknown credential");
            capnp::Error::failed(DENIED.to_owned())
        })
    }

    fn describe(
        &self,
        from: peer_facts::Reader<'_>,
        principal: Principal,
    ) -> Result<(Peer, Root), capnp::Error> {
        let text = |text: capnp::text::Reader<'_>| -> Result<String, capnp::Error> {
            let text = text.to_str()?;
            Ok(text.chars().filter(|c| !c.is_control()).take(FACT_BYTES_MAX).collect())
        };
        let cluster_id = from.get_cluster_id()?;
        let incarnations = from.get_incarnations()?;
        if cluster_id.len() > CLUSTER_ID_BYTES_MAX || incarnations.len() > INCARNATIONS_MAX {
            return Err(capnp::Error::failed("invalid: facts of unreasonable size".to_owned()));
        }
        let mut held = Vec::with_capacity(incarnations.len() as usize);
        for entry in incarnations {
            held.push((
                batch::read_stream(entry.get_stream()?),
                batch::read_incarnation(entry.get_incarnation()?),
            ));
        }
        let id = self.shared.next_session.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity::new(
            calls_in_flight_max(self.shared.registry.limits(), principal.role),
            self.shared.registry.incidents().clone(),
        ));
        let root = self.shared.registry.ledger().root(id, Arc::from(&principal.name[..]), activity.clone());
        let session = Session::new(
            id,
            principal,
            PeerDescription {
                product: text(from.get_product()?)?,
                version: text(from.get_version()?)?,
                hostname: text(from.get_hostname()?)?,
                job: text(from.get_job()?)?,
            },
            unix_ms(),
            self.link.clone(),
            Holdings {
                activity,
                grant: root.0.clone(),
                meter: self.terms.meter.clone(),
                budget: self.shared.registry.budget().clone(),
            },
        );
        let peer = Peer {
            session: Arc::new(session),
            cluster_id: cluster_id.to_vec(),
            incarnations: held,
            tickets: Tickets::default(),
        };
        Ok((peer, root))
    }
}

/// Calls that a session may have under way. A gateway's are those of all its
/// users, and a live tail holds one for as long as it waits.
fn calls_in_flight_max(limits: &MeshLimits, role: Role) -> u32 {
    let max = match role {
        Role::Gateway => limits.query.calls_max,
        // A bulk stream at its own bound must not take control's calls along.
        _ => limits.control.calls_max + limits.bulk.calls_max,
    };
    u32::try_from(max).unwrap_or(u32::MAX)
}

/// Root and our own user may do to us what they like anyway.
fn local_operator(uid: u32) -> Result<Principal, capnp::Error> {
    let name = match uid {
        0 => "local:root".to_owned(),
        uid if uid == rustix::process::geteuid().as_raw() => format!("local:uid-{uid}"),
        uid => {
            tracing::warn!(uid, "local login refused");
            return Err(capnp::Error::failed(format!(
                "denied: uid {uid} is neither root nor the collector's own user; use a token"
            )));
        }
    };
    Ok(Principal::new(name, Role::Operator))
}

/// Longest of each text that a peer says of itself; more is cut off.
const FACT_BYTES_MAX: usize = 256;
const CLUSTER_ID_BYTES_MAX: usize = 64;
const INCARNATIONS_MAX: u32 = 1024;

fn write_grant(session: &Session, admission: Admission, mut to: grant::Builder<'_>) {
    to.set_session_id(session.id);
    to.set_cluster_id(&admission.cluster_id);
    to.set_identity(&session.principal.name[..]);
    to.reborrow().init_accepted_batch_versions(1).set(0, BATCH_VERSION);
    let mut list = to.reborrow().init_resume(admission.resume.len() as u32);
    for (index, resume) in admission.resume.iter().enumerate() {
        let mut entry = list.reborrow().get(index as u32);
        entry.set_stream(batch::wire_stream(resume.stream));
        batch::write_incarnation(resume.incarnation, entry.reborrow().init_incarnation());
        entry.set_durable_end(resume.durable_end);
        entry.set_landed_end(resume.landed_end);
    }
    let mut limits = to.reborrow().init_limits();
    limits.set_batch_bytes_max(admission.batch_bytes_max);
    limits.set_batch_raw_bytes_max(admission.limits.raw_bytes_max);
    limits.set_calls_in_flight_max(admission.calls_in_flight_max);
    limits.set_log_line_bytes_max(admission.limits.log_line_bytes_max);
    limits.set_logs_per_batch_max(admission.limits.logs_per_batch_max);
    limits.set_series_per_batch_max(admission.limits.series_per_batch_max);
    match admission.capability {
        Capability::Agent(client) => to.set_agent(client),
        Capability::Gateway(client) => to.set_gateway(client),
        Capability::Operator(client) => to.set_operator(client),
    }
}

/// Bootstrap of every other stream.
pub(super) struct AttachServer {
    pub peer: Rc<Peer>,
    /// Of the stream that it is the bootstrap of.
    pub terms: Rc<Terms>,
    pub shared: Arc<Shared>,
}

impl attach::Server for AttachServer {
    async fn attach(
        self: Rc<Self>,
        params: attach::AttachParams,
        mut results: attach::AttachResults,
    ) -> Result<(), capnp::Error> {
        let ticket = params.get().and_then(|params| params.get_ticket()).map_err(told)?;
        let found = self.peer.tickets.redeem(ticket).ok_or_else(|| {
            capnp::Error::failed("expired: the ticket is unknown, used or over ten seconds old".to_owned())
        })?;
        let mut to: attached::Builder<'_> = results.get().init_attached();
        let limits = self.shared.registry.limits();
        let budget = || Some((self.shared.registry.budget().clone(), self.peer.session.id));
        match found {
            Attachment::Sink(sink) => {
                self.terms.change(limits.bulk, budget());
                to.set_sink(sink);
            }
            Attachment::Writers(users) => {
                // One reference for each user.
                let exports_max = limits.query.exports_max;
                self.terms.change(StreamLimits { exports_max, ..limits.bulk }, budget());
                to.set_users(users);
            }
            Attachment::Users(users) => {
                self.terms.change(limits.query, None);
                to.set_users(users);
            }
        }
        Ok(())
    }
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
