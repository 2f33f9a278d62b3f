//! API tokens of programs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::changed;
use super::audit::{Act, Ending};
use super::{
    Access, AccessError, Actor, Credential, Person, Principal, Program, Role, Scope, body,
    normal_name, text,
};
use crate::limits::{API_TOKENS_MAX, LAST_USE_AGE_MS};
use crate::store::record::{Expected, Record, RecordChange, RecordClass};

/// What every API token begins with, so that people and secret scanners know one when they see it.
pub const API_TOKEN_PREFIX: &str = "sct_";

/// A token as it is kept; the record's key is the part of its credential that is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiToken {
    hash: String,
    name: String,
    scopes: Vec<Scope>,
    /// The account that made it, with whose rights it stands and falls; none for the command line.
    made_by: Option<Maker>,
    created_ms: i64,
    expires_ms: Option<i64>,
    used_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Maker {
    account: String,
    id: String,
}

/// A token as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenSummary {
    /// By what it is revoked.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The account that made it; none if it was the command line.
    pub made_by: Option<String>,
    /// When it was made, in unix milliseconds.
    pub created_ms: i64,
    /// When it ends, in unix milliseconds, if ever.
    pub expires_ms: Option<i64>,
    /// When it was used last, to the minute, in unix milliseconds.
    pub used_ms: Option<i64>,
}

/// What a new token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it ends, in unix milliseconds, if ever.
    pub expires_ms: Option<i64>,
}

impl TokenSummary {
    fn of(id: &str, token: ApiToken) -> Self {
        Self {
            id: id.to_owned(),
            name: token.name,
            scopes: token.scopes,
            made_by: token.made_by.map(|maker| maker.account),
            created_ms: token.created_ms,
            expires_ms: token.expires_ms,
            used_ms: token.used_ms,
        }
    }
}

impl Access {
    /// Makes a token and returns its text, which cannot be read again. `made_by` is the person who
    /// makes it, or the program, whose own maker it is then; `None` for the command line.
    ///
    /// # Errors
    /// When there is one with this name, no scope is named, or the store fails.
    pub async fn add_token(
        &self,
        actor: &Actor,
        made_by: Option<&Principal>,
        new: NewToken,
        now_ms: i64,
    ) -> Result<(String, TokenSummary), AccessError> {
        let name = normal_name(&new.name)?;
        if new.scopes.is_empty() {
            return Err(AccessError::NoScope);
        }
        let mut scopes = new.scopes;
        scopes.sort_unstable();
        scopes.dedup();
        let present = self.tokens().await?;
        if present.len() >= API_TOKENS_MAX {
            return Err(AccessError::TooMany(present.len()));
        }
        if present.iter().any(|token| token.name == name) {
            return Err(AccessError::TokenExists(name));
        }
        let made_by = match made_by {
            None | Some(Principal::Anonymous) => None,
            Some(Principal::Person(Person { account, .. })) => {
                let unknown = || AccessError::UnknownAccount(account.clone());
                let (_, found) = self.find_account(account).await?.ok_or_else(unknown)?;
                Some(Maker { account: account.clone(), id: found.id })
            }
            Some(Principal::Program(program)) => {
                let unknown = || AccessError::UnknownToken(program.name.clone());
                let record = self.records.record(RecordClass::ApiToken, &program.token).await?;
                body::<ApiToken>(&record.ok_or_else(unknown)?)?.made_by
            }
        };
        let credential = Credential::draw()?;
        let token = ApiToken {
            hash: credential.hash(),
            name: name.clone(),
            scopes,
            made_by,
            created_ms: now_ms,
            expires_ms: new.expires_ms,
            used_ms: None,
        };
        let id = credential.id();
        let put = RecordChange::put(RecordClass::ApiToken, id, Expected::Absent, text(&token));
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let subject = format!("{name} ({id}) for {}", scopes.join(", "));
        let act = Act { actor, act: "token.add", subject: &subject, ending: Ending::Done };
        changed(self.audit.note_with(&act, vec![put]).await)?;
        let shown = format!("{API_TOKEN_PREFIX}{}", credential.reveal());
        Ok((shown, TokenSummary::of(id, token)))
    }

    /// Finds out which token this is, and notes that it was used.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn program(&self, text: &str, now_ms: i64) -> Result<Option<Program>, AccessError> {
        let credential = text.strip_prefix(API_TOKEN_PREFIX).and_then(Credential::parse);
        let Some(credential) = credential else { return Ok(None) };
        let record = self.records.record(RecordClass::ApiToken, credential.id()).await?;
        let Some(record) = record else { return Ok(None) };
        let token: ApiToken = body(&record)?;
        if !credential.matches(&token.hash) {
            return Ok(None);
        }
        let program = self.bearer(&record, &token, now_ms).await?;
        if program.is_some() && token.used_ms.is_none_or(|used| now_ms - used > LAST_USE_AGE_MS) {
            let used = ApiToken { used_ms: Some(now_ms), ..token };
            self.touch(&record, super::text(&used)).await?;
        }
        Ok(program)
    }

    /// Tells whether a token still holds, without counting as use of it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn token_holds(&self, program: &Program, now_ms: i64) -> Result<bool, AccessError> {
        let record = self.records.record(RecordClass::ApiToken, &program.token).await?;
        let Some(record) = record else { return Ok(false) };
        Ok(self.bearer(&record, &body(&record)?, now_ms).await?.as_ref() == Some(program))
    }

    /// A token holds until it ends, and as long as who made it may hand out its scopes.
    async fn bearer(
        &self,
        record: &Record,
        token: &ApiToken,
        now_ms: i64,
    ) -> Result<Option<Program>, AccessError> {
        if token.expires_ms.is_some_and(|end_ms| now_ms >= end_ms) {
            return Ok(None);
        }
        if let Some(maker) = &token.made_by {
            let account = self.find_account(&maker.account).await?;
            let role = account.filter(|(_, account)| account.id == maker.id).map(|(_, a)| a.role);
            let covers = |role: Role| token.scopes.iter().all(|scope| role.covers(*scope));
            if !role.is_some_and(covers) {
                return Ok(None);
            }
        }
        Ok(Some(Program {
            token: record.key.clone(),
            name: token.name.clone(),
            scopes: token.scopes.clone(),
        }))
    }

    /// Lists the tokens by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tokens(&self) -> Result<Vec<TokenSummary>, AccessError> {
        let mut all = Vec::new();
        for record in self.all_records(RecordClass::ApiToken).await? {
            all.push(TokenSummary::of(&record.key, body(&record)?));
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Revokes a token, named by its identity or its name; it is worth nothing from the next
    /// request on.
    ///
    /// # Errors
    /// [`AccessError::UnknownToken`], or when the store fails.
    pub async fn revoke_token(
        &self,
        actor: &Actor,
        which: &str,
    ) -> Result<TokenSummary, AccessError> {
        let all = self.tokens().await?;
        let unknown = || AccessError::UnknownToken(which.chars().take(64).collect());
        let token = all
            .into_iter()
            .find(|token| token.id == which || token.name == which)
            .ok_or_else(unknown)?;
        let delete = RecordChange::delete(RecordClass::ApiToken, token.id.as_str(), Expected::Any);
        let subject = format!("{} ({})", token.name, token.id);
        let act = Act { actor, act: "token.revoke", subject: &subject, ending: Ending::Done };
        changed(self.audit.note_with(&act, vec![delete]).await)?;
        Ok(token)
    }

    /// Lists the keys of the tokens that an account made.
    pub(super) async fn tokens_made_by(
        &self,
        account_id: &str,
    ) -> Result<Vec<String>, AccessError> {
        let mut keys = Vec::new();
        for record in self.all_records(RecordClass::ApiToken).await? {
            let token: ApiToken = body(&record)?;
            if token.made_by.is_some_and(|maker| maker.id == account_id) {
                keys.push(record.key);
            }
        }
        Ok(keys)
    }
}
