//! Links that let somebody in without a password: the one-time set-up link of the first start, and
//! the link of a demo.

use serde::{Deserialize, Serialize};

use super::audit::{Act, Ending};
use super::password::require_good;
use super::session::SignedIn;
use super::{
    Access, AccessError, Actor, Credential, Origin, Person, Role, body, count, normal_name, text,
};
use crate::clock::now_ms;
use crate::limits::{DEMO_LINK_LIFE_MS, SET_UP_LINK_LIFE_MS};
use crate::store::record::{Expected, Record, RecordChange, RecordClass};

const SET_UP: &str = "set-up-link";
const DEMO: &str = "demo-link";
/// The account that the link of a demo signs in to.
const DEMO_ACCOUNT: &str = "demo";

/// A link as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invitation {
    hash: String,
    expires_ms: i64,
}

impl Access {
    /// Makes a set-up link if there is no account yet; an earlier one is worth nothing then.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn offer_set_up(&self, now_ms: i64) -> Result<Option<Credential>, AccessError> {
        if self.has_accounts().await? {
            return Ok(None);
        }
        self.put_link(SET_UP, now_ms + SET_UP_LINK_LIFE_MS).await.map(Some)
    }

    /// Makes the account of a demo and a link that signs in to it as often as one likes. The data
    /// of a demo go with it, and so does the link.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn offer_demo(&self, now_ms: i64) -> Result<Credential, AccessError> {
        if self.find_account(DEMO_ACCOUNT).await?.is_none() {
            let actor = Actor::server();
            self.put_new_account(&actor, DEMO_ACCOUNT, Role::Admin, None, Vec::new()).await?;
        }
        self.put_link(DEMO, now_ms + DEMO_LINK_LIFE_MS).await
    }

    /// Makes the first admin with the set-up link, and signs him in. The link is gone then.
    ///
    /// # Errors
    /// [`AccessError::LinkInvalid`] for a link that is wrong, used or over; or when the name or
    /// password will not do, which leaves the link as it is.
    pub async fn set_up(
        &self,
        link: &str,
        name: &str,
        password: &str,
        origin: &Origin,
        agent: &str,
        now_ms: i64,
    ) -> Result<SignedIn, AccessError> {
        let actor = Actor { who: "set-up link".to_owned(), from: origin.shown() };
        let Some(record) = self.link(SET_UP, link, now_ms).await? else {
            return self.refuse(&actor, "set-up").await;
        };
        let name = normal_name(name)?;
        require_good(&name, password)?;
        let password = self.passwords.hash(password.to_owned()).await?;
        let expected = Expected::Revision(record.revision);
        let used = RecordChange::delete(RecordClass::Setting, SET_UP, expected);
        let made =
            self.put_new_account(&actor, &name, Role::Admin, Some(password), vec![used]).await;
        match made {
            // Two at once: the other one has used it.
            Err(AccessError::Changed) => return self.refuse(&actor, "set-up").await,
            made => made?,
        };
        self.enter(&name, origin, agent, None, now_ms).await
    }

    /// Signs in by the link of a demo.
    ///
    /// # Errors
    /// [`AccessError::LinkInvalid`] for a link that is wrong or over, or when the store fails.
    pub async fn sign_in_by_link(
        &self,
        link: &str,
        origin: &Origin,
        agent: &str,
        earlier: Option<&Person>,
        now_ms: i64,
    ) -> Result<SignedIn, AccessError> {
        if self.link(DEMO, link, now_ms).await?.is_none() {
            let actor = Actor { who: "demo link".to_owned(), from: origin.shown() };
            return self.refuse(&actor, "session.begin").await;
        }
        self.enter(DEMO_ACCOUNT, origin, agent, earlier, now_ms).await
    }

    async fn enter(
        &self,
        name: &str,
        origin: &Origin,
        agent: &str,
        earlier: Option<&Person>,
        now_ms: i64,
    ) -> Result<SignedIn, AccessError> {
        let (_, account) = self.find_account(name).await?.ok_or(AccessError::LinkInvalid)?;
        let actor = Actor { who: name.to_owned(), from: origin.shown() };
        self.begin_session(name, &account, &actor, agent, earlier, now_ms).await
    }

    async fn refuse<T>(&self, actor: &Actor, act: &str) -> Result<T, AccessError> {
        count(&self.counters.refused);
        let act = Act { actor, act, subject: "", ending: Ending::Refused };
        self.note_in_vain(&act, now_ms()).await?;
        Err(AccessError::LinkInvalid)
    }

    async fn put_link(&self, key: &str, expires_ms: i64) -> Result<Credential, AccessError> {
        let credential = Credential::draw()?;
        let invitation = Invitation { hash: credential.hash(), expires_ms };
        let put = RecordChange::put(RecordClass::Setting, key, Expected::Any, text(&invitation));
        self.records.change_records(vec![put]).await?;
        Ok(credential)
    }

    /// Finds a link that fits and holds.
    async fn link(
        &self,
        key: &str,
        link: &str,
        now_ms: i64,
    ) -> Result<Option<Record>, AccessError> {
        let Some(record) = self.records.record(RecordClass::Setting, key).await? else {
            return Ok(None);
        };
        let invitation: Invitation = body(&record)?;
        let fits = Credential::parse(link).is_some_and(|link| link.matches(&invitation.hash));
        Ok((fits && now_ms < invitation.expires_ms).then_some(record))
    }

    /// Prepares the removal of links that are over.
    pub(super) async fn links_that_are_over(
        &self,
        now_ms: i64,
    ) -> Result<Vec<RecordChange>, AccessError> {
        let mut over = Vec::new();
        for key in [SET_UP, DEMO] {
            let Some(record) = self.records.record(RecordClass::Setting, key).await? else {
                continue;
            };
            if body::<Invitation>(&record).is_ok_and(|link| now_ms >= link.expires_ms) {
                let expected = Expected::Revision(record.revision);
                over.push(RecordChange::delete(RecordClass::Setting, key, expected));
            }
        }
        Ok(over)
    }
}
