//! Sessions of people who are signed in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::{Account, changed};
use super::audit::{Act, Ending};
use super::{
    Access, AccessError, Actor, Credential, Origin, Person, SourceNet, body, count, normal_name,
    text,
};
use crate::limits::{
    AGENT_LEN_MAX, LAST_USE_AGE_MS, SESSION_IDLE_MS, SESSION_LIFE_MS, SESSIONS_PER_ACCOUNT_MAX,
};
use crate::store::StoreError;
use crate::store::record::{Expected, Record, RecordChange, RecordClass};

/// A session as it is kept; the record's key is the part of its credential that is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    hash: String,
    account: String,
    account_id: String,
    created_ms: i64,
    used_ms: i64,
    from: String,
    agent: String,
}

/// A session as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SessionSummary {
    /// By what it is ended.
    pub id: String,
    /// When it began, in unix milliseconds.
    pub created_ms: i64,
    /// When it was used last, to the minute, in unix milliseconds.
    pub used_ms: i64,
    /// When it ends at the latest, in unix milliseconds.
    pub expires_ms: i64,
    /// From which address it began.
    pub from: String,
    /// What the browser said of itself.
    pub agent: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

impl Session {
    fn is_over(&self, now_ms: i64) -> bool {
        now_ms >= self.created_ms + SESSION_LIFE_MS || now_ms >= self.used_ms + SESSION_IDLE_MS
    }
}

/// A session that has just begun.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// What the browser sends from now on.
    pub credential: Credential,
    /// Who it is.
    pub person: Person,
}

impl Access {
    /// Signs somebody in by name and password; an earlier session of the same browser ends.
    ///
    /// # Errors
    /// [`AccessError::WrongPassword`] whatever of both is wrong, [`AccessError::Limited`] after
    /// many failures, or when the store fails.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        origin: &Origin,
        agent: &str,
        earlier: Option<&Person>,
        now_ms: i64,
    ) -> Result<SignedIn, AccessError> {
        // What cannot be a name is treated as an unknown one, whose limits are its own.
        let name = normal_name(name).unwrap_or_default();
        let source = SourceNet::from(origin.address);
        self.sign_ins.begin(&name, source, now_ms).map_err(AccessError::Limited)?;
        let found = if name.is_empty() { None } else { self.find_account(&name).await? };
        let hash = found.as_ref().and_then(|(_, account)| account.password.as_deref());
        let right = self.passwords.matches(password, hash).await?;
        let actor = Actor { who: name.clone(), from: origin.shown() };
        let Some((_, account)) = found.filter(|_| right) else {
            count(&self.counters.refused);
            // Who mistypes may have typed the password as the name: only real names are noted.
            let known = self.known_name(&name).await?;
            let actor = Actor { who: known, ..actor };
            let act =
                Act { actor: &actor, act: "session.begin", subject: "", ending: Ending::Refused };
            self.note_in_vain(&act, now_ms).await?;
            return Err(AccessError::WrongPassword);
        };
        self.sign_ins.succeeded(&name, source, now_ms);
        self.begin_session(&name, &account, &actor, agent, earlier, now_ms).await
    }

    async fn known_name(&self, name: &str) -> Result<String, AccessError> {
        let known = !name.is_empty() && self.find_account(name).await?.is_some();
        Ok(if known { name.to_owned() } else { "unknown account".to_owned() })
    }

    /// Begins a session with a credential drawn anew.
    pub(super) async fn begin_session(
        &self,
        name: &str,
        account: &Account,
        actor: &Actor,
        agent: &str,
        earlier: Option<&Person>,
        now_ms: i64,
    ) -> Result<SignedIn, AccessError> {
        let credential = Credential::draw()?;
        let session = Session {
            hash: credential.hash(),
            account: name.to_owned(),
            account_id: account.id.clone(),
            created_ms: now_ms,
            used_ms: now_ms,
            from: actor.from.clone(),
            agent: agent.chars().filter(|c| !c.is_control()).take(AGENT_LEN_MAX).collect(),
        };
        let mut changes = vec![RecordChange::put(
            RecordClass::Session,
            credential.id(),
            Expected::Absent,
            text(&session),
        )];
        let mut others = self.sessions_of_account(&account.id).await?;
        others.sort_by_key(|(_, summary)| std::cmp::Reverse(summary.used_ms));
        let too_many = others.split_off(others.len().min(SESSIONS_PER_ACCOUNT_MAX - 1));
        let earlier = earlier.map(|person| person.session.clone());
        for key in too_many.into_iter().map(|(record, _)| record.key).chain(earlier) {
            changes.push(RecordChange::delete(RecordClass::Session, key, Expected::Any));
        }
        let act = Act { actor, act: "session.begin", subject: "", ending: Ending::Done };
        changed(self.audit.note_with(&act, changes).await)?;
        count(&self.counters.signed_in);
        let person = Person {
            account: name.to_owned(),
            role: account.role,
            session: credential.id().to_owned(),
            expires_ms: now_ms + SESSION_LIFE_MS,
        };
        Ok(SignedIn { credential, person })
    }

    /// Finds out whose session this is, and notes that it was used.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn person(
        &self,
        credential: &str,
        now_ms: i64,
    ) -> Result<Option<Person>, AccessError> {
        let Some(credential) = Credential::parse(credential) else { return Ok(None) };
        let record = self.records.record(RecordClass::Session, credential.id()).await?;
        let Some(record) = record else { return Ok(None) };
        let session: Session = body(&record)?;
        if !credential.matches(&session.hash) {
            return Ok(None);
        }
        let person = self.holder(&record.key, &session, now_ms).await?;
        if person.is_some() && now_ms - session.used_ms > LAST_USE_AGE_MS {
            let used = Session { used_ms: now_ms, ..session };
            self.touch(&record, text(&used)).await?;
        }
        Ok(person)
    }

    /// Tells whether a session still holds, without counting as use of it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn session_holds(&self, person: &Person, now_ms: i64) -> Result<bool, AccessError> {
        let record = self.records.record(RecordClass::Session, &person.session).await?;
        let Some(record) = record else { return Ok(false) };
        let holder = self.holder(&record.key, &body(&record)?, now_ms).await?;
        Ok(holder.is_some_and(|now| now.role == person.role))
    }

    async fn holder(
        &self,
        key: &str,
        session: &Session,
        now_ms: i64,
    ) -> Result<Option<Person>, AccessError> {
        if session.is_over(now_ms) {
            return Ok(None);
        }
        let account = self.find_account(&session.account).await?;
        let same = |(_, account): &(Record, Account)| account.id == session.account_id;
        Ok(account.filter(same).map(|(_, account)| Person {
            account: session.account.clone(),
            role: account.role,
            session: key.to_owned(),
            expires_ms: session.created_ms + SESSION_LIFE_MS,
        }))
    }

    /// Writes when a record was used; if it changes at the same time, that is not worth a try.
    pub(super) async fn touch(&self, record: &Record, body: String) -> Result<(), AccessError> {
        let expected = Expected::Revision(record.revision);
        let change = RecordChange::put(record.class, record.key.as_str(), expected, body);
        match self.records.change_records(vec![change]).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the session of somebody who signs out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_out(&self, actor: &Actor, person: &Person) -> Result<(), AccessError> {
        let end =
            RecordChange::delete(RecordClass::Session, person.session.as_str(), Expected::Any);
        let act = Act { actor, act: "session.end", subject: "", ending: Ending::Done };
        changed(self.audit.note_with(&act, vec![end]).await)
    }

    /// Lists the sessions of somebody, the one used last first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions(
        &self,
        person: &Person,
        now_ms: i64,
    ) -> Result<Vec<SessionSummary>, AccessError> {
        let Some((_, account)) = self.find_account(&person.account).await? else {
            return Ok(Vec::new());
        };
        let mut own = Vec::new();
        for (record, summary) in self.sessions_of_account(&account.id).await? {
            if !body::<Session>(&record)?.is_over(now_ms) {
                own.push(SessionSummary { current: summary.id == person.session, ..summary });
            }
        }
        own.sort_by_key(|summary| (!summary.current, std::cmp::Reverse(summary.used_ms)));
        Ok(own)
    }

    /// Ends one of somebody's own sessions.
    ///
    /// # Errors
    /// [`AccessError::UnknownSession`] if it is not his, or when the store fails.
    pub async fn end_session(
        &self,
        actor: &Actor,
        person: &Person,
        id: &str,
    ) -> Result<(), AccessError> {
        let account = self.find_account(&person.account).await?;
        let (_, account) = account.ok_or(AccessError::UnknownSession)?;
        let own = self.sessions_of_account(&account.id).await?;
        let (record, _) = own
            .into_iter()
            .find(|(_, summary)| summary.id == id)
            .ok_or(AccessError::UnknownSession)?;
        let end = RecordChange::delete(
            RecordClass::Session,
            record.key.as_str(),
            Expected::Revision(record.revision),
        );
        let act = Act { actor, act: "session.end", subject: id, ending: Ending::Done };
        changed(self.audit.note_with(&act, vec![end]).await)
    }

    /// Lists the records of an account's sessions.
    pub(super) async fn sessions_of_account(
        &self,
        account_id: &str,
    ) -> Result<Vec<(Record, SessionSummary)>, AccessError> {
        let mut own = Vec::new();
        for record in self.all_records(RecordClass::Session).await? {
            let session: Session = body(&record)?;
            if session.account_id == account_id {
                let summary = SessionSummary {
                    id: record.key.clone(),
                    created_ms: session.created_ms,
                    used_ms: session.used_ms,
                    expires_ms: session.created_ms + SESSION_LIFE_MS,
                    from: session.from,
                    agent: session.agent,
                    current: false,
                };
                own.push((record, summary));
            }
        }
        Ok(own)
    }

    /// Removes sessions, tokens and links that are over; returns how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, now_ms: i64) -> Result<usize, AccessError> {
        let mut changes = Vec::new();
        for record in self.all_records(RecordClass::Session).await? {
            if body::<Session>(&record).is_ok_and(|session| session.is_over(now_ms)) {
                let expected = Expected::Revision(record.revision);
                changes.push(RecordChange::delete(RecordClass::Session, record.key, expected));
            }
        }
        changes.extend(self.links_that_are_over(now_ms).await?);
        let count = changes.len();
        if count > 0 {
            match self.records.change_records(changes).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }
}
