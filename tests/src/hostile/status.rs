//! What the collector says of itself.

use lm_mesh::Granted;

use crate::System;
use crate::mesh::MeshConfig;

/// As an operator sees it, whose own session is counted too.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub sessions: u32,
    pub panics: u64,
}

impl Status {
    /// # Errors
    ///
    /// When the collector does not answer.
    pub async fn ask(system: &System) -> Result<Status, String> {
        let token = system.path("operator-token");
        let config = MeshConfig { token, ..MeshConfig::of(system, "") };
        let connected = config.dial(&[]).await.map_err(|error| error.to_string())?;
        let asked = async {
            let Granted::Operator(operator) = &connected.granted else {
                return Err(capnp::Error::failed("not an operator's token".to_owned()));
            };
            let response = operator.status_request().send().promise.await?;
            let status = response.get()?.get_status()?;
            Ok(Status { sessions: status.get_sessions(), panics: status.get_panics() })
        };
        let status = asked.await.map_err(|error| error.to_string());
        connected.close().await;
        status
    }
}
