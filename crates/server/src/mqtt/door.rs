//! Who gets in.

use super::answer::Refusal;
use super::packet::Connect;
use crate::identity::{Admission, Directory};
use crate::topic;

/// Finds who a client is: by its certificate if it showed one, else by user name and token. A
/// client learns only that it was refused; the reason is for the log.
pub(super) async fn admit(
    directory: &Directory,
    connect: &Connect,
    certificate: Option<&[u8]>,
) -> Result<Admission, (Refusal, String)> {
    let refused = |reason: &str| (Refusal::NotAuthorized, reason.to_owned());
    if connect.enhanced_authentication {
        return Err((Refusal::Method, "an authentication that is not spoken here".to_owned()));
    }
    let admission = match certificate {
        Some(certificate) => directory.seek(|known| known.admit_certificate(certificate)).await,
        None => {
            let Some(user_name) = connect.user_name.as_deref() else {
                return Err(refused("neither certificate nor user name"));
            };
            let Some(token) = connect.password.as_deref() else {
                return Err(refused("no password"));
            };
            directory.seek(|known| known.admit_token(user_name, token)).await
        }
    };
    let admission = admission.map_err(|refusal| refused(&refusal.to_string()))?;
    let device = &admission.device;
    if !connect.client_id.is_empty() && connect.client_id != device.as_str() {
        return Err(refused("the client identifier is another device's"));
    }
    if connect.user_name.as_deref().is_some_and(|name| name != device.as_str()) {
        return Err(refused("the user name is another device's"));
    }
    if let Some(will_topic) = &connect.will_topic {
        if !topic::may_publish(device, will_topic) {
            return Err(refused("the last will's topic is not the device's own"));
        }
        if connect.will_retained && connect.version == super::packet::Version::V5 {
            return Err((Refusal::Retain, "a last will to be retained".to_owned()));
        }
    }
    Ok(admission)
}
