//! Accounts of people.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::{Act, Ending};
use super::password::require_good;
use super::secret::draw_id;
use super::{Access, AccessError, Actor, Role, body, normal_name, text};
use crate::clock::now_ms;
use crate::limits::{ACCESS_PAGE, ACCOUNTS_MAX};
use crate::store::StoreError;
use crate::store::record::{Expected, Record, RecordChange, RecordClass};

/// Changed with every account, so that two changes at once cannot both remove the second-last
/// admin.
const ACCOUNTS_MARK: &str = "accounts";

/// An account as it is kept; the record's key is its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    /// Drawn anew for each account: sessions and tokens of a removed one do not come back with
    /// another of the same name.
    pub(super) id: String,
    pub(super) role: Role,
    /// A PHC string; without one, nobody signs in by password.
    pub(super) password: Option<String>,
    pub(super) created_ms: i64,
    pub(super) password_ms: i64,
}

/// An account as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountSummary {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in unix milliseconds.
    pub created_ms: i64,
    /// When its password was set, in unix milliseconds.
    pub password_ms: i64,
}

impl AccountSummary {
    fn of(name: &str, account: &Account) -> Self {
        Self {
            name: name.to_owned(),
            role: account.role,
            created_ms: account.created_ms,
            password_ms: account.password_ms,
        }
    }
}

/// Makes an account; the password is a PHC string.
pub(super) fn new_account(role: Role, password: Option<String>) -> Result<Account, AccessError> {
    let now_ms = now_ms();
    Ok(Account { id: draw_id()?, role, password, created_ms: now_ms, password_ms: now_ms })
}

impl Access {
    /// Finds an account and its record by its name in normal form.
    pub(super) async fn find_account(
        &self,
        name: &str,
    ) -> Result<Option<(Record, Account)>, AccessError> {
        let record = self.records.record(RecordClass::Account, name).await?;
        record.map(|record| body(&record).map(|account| (record, account))).transpose()
    }

    async fn must_find(&self, name: &str) -> Result<(String, Record, Account), AccessError> {
        let unknown = || AccessError::UnknownAccount(name.chars().take(64).collect());
        let name = normal_name(name).map_err(|_| unknown())?;
        let (record, account) = self.find_account(&name).await?.ok_or_else(unknown)?;
        Ok((name, record, account))
    }

    /// Lists the accounts by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accounts(&self) -> Result<Vec<AccountSummary>, AccessError> {
        let mut all = Vec::new();
        for record in self.all_records(RecordClass::Account).await? {
            all.push(AccountSummary::of(&record.key, &body(&record)?));
        }
        Ok(all)
    }

    /// Finds an account by its name.
    ///
    /// # Errors
    /// [`AccessError::UnknownAccount`], or when the store fails.
    pub async fn account(&self, name: &str) -> Result<AccountSummary, AccessError> {
        let (name, _, account) = self.must_find(name).await?;
        Ok(AccountSummary::of(&name, &account))
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When the name or password will not do, the account exists, or the store fails.
    pub async fn add_account(
        &self,
        actor: &Actor,
        name: &str,
        role: Role,
        password: &str,
    ) -> Result<AccountSummary, AccessError> {
        let name = normal_name(name)?;
        require_good(&name, password)?;
        if self.find_account(&name).await?.is_some() {
            return Err(AccessError::AccountExists(name));
        }
        let password = self.passwords.hash(password.to_owned()).await?;
        self.put_new_account(actor, &name, role, Some(password), Vec::new()).await
    }

    /// Writes a new account, together with other changes.
    pub(super) async fn put_new_account(
        &self,
        actor: &Actor,
        name: &str,
        role: Role,
        password: Option<String>,
        mut changes: Vec<RecordChange>,
    ) -> Result<AccountSummary, AccessError> {
        let mark = self.mark().await?;
        let count = self.all_records(RecordClass::Account).await?.len();
        if count >= ACCOUNTS_MAX {
            return Err(AccessError::TooMany(count));
        }
        let account = new_account(role, password)?;
        let put = RecordChange::put(RecordClass::Account, name, Expected::Absent, text(&account));
        changes.extend([put, mark]);
        let subject = format!("{name} as {role}");
        let act = Act { actor, act: "account.add", subject: &subject, ending: Ending::Done };
        match self.audit.note_with(&act, changes).await {
            Err(StoreError::Conflict { class: RecordClass::Account, .. }) => {
                Err(AccessError::AccountExists(name.to_owned()))
            }
            outcome => {
                changed(outcome)?;
                Ok(AccountSummary::of(name, &account))
            }
        }
    }

    /// Gives an account another role, from the next request on.
    ///
    /// # Errors
    /// When there is no such account, it is the last admin, or the store fails.
    pub async fn set_role(
        &self,
        actor: &Actor,
        name: &str,
        role: Role,
    ) -> Result<AccountSummary, AccessError> {
        let mark = self.mark().await?;
        let (name, record, account) = self.must_find(name).await?;
        if account.role == Role::Admin && role != Role::Admin {
            self.require_another_admin(&name).await?;
        }
        let account = Account { role, ..account };
        let subject = format!("{name} to {role}");
        let act = Act { actor, act: "account.role", subject: &subject, ending: Ending::Done };
        let changes = vec![replace(&record, &account), mark];
        changed(self.audit.note_with(&act, changes).await)?;
        Ok(AccountSummary::of(&name, &account))
    }

    /// Gives an account another password, and ends its sessions but `keep`.
    ///
    /// # Errors
    /// When there is no such account, the password will not do, or the store fails.
    pub async fn set_password(
        &self,
        actor: &Actor,
        name: &str,
        password: &str,
        keep: Option<&str>,
    ) -> Result<(), AccessError> {
        let (name, record, account) = self.must_find(name).await?;
        require_good(&name, password)?;
        let hash = self.passwords.hash(password.to_owned()).await?;
        let account = Account { password: Some(hash), password_ms: now_ms(), ..account };
        let mut changes = vec![replace(&record, &account)];
        for (session, summary) in self.sessions_of_account(&account.id).await? {
            if keep != Some(summary.id.as_str()) {
                changes.push(RecordChange::delete(
                    RecordClass::Session,
                    session.key,
                    Expected::Any,
                ));
            }
        }
        let act = Act { actor, act: "account.password", subject: &name, ending: Ending::Done };
        changed(self.audit.note_with(&act, changes).await)
    }

    /// Gives an account another password for somebody who knows the present one.
    ///
    /// # Errors
    /// [`AccessError::WrongPassword`], or as [`Access::set_password`].
    pub async fn change_own_password(
        &self,
        actor: &Actor,
        person: &super::Person,
        present: &str,
        new: &str,
    ) -> Result<(), AccessError> {
        let (name, _, account) = self.must_find(&person.account).await?;
        require_good(&name, new)?;
        if !self.passwords.matches(present, account.password.as_deref()).await? {
            let act =
                Act { actor, act: "account.password", subject: &name, ending: Ending::Refused };
            self.note_in_vain(&act, now_ms()).await?;
            return Err(AccessError::WrongPassword);
        }
        self.set_password(actor, &name, new, Some(&person.session)).await
    }

    /// Removes an account; its sessions and the tokens it made are worth nothing from then on.
    ///
    /// # Errors
    /// When there is no such account, it is the last admin, or the store fails.
    pub async fn remove_account(&self, actor: &Actor, name: &str) -> Result<(), AccessError> {
        let mark = self.mark().await?;
        let (name, record, account) = self.must_find(name).await?;
        if account.role == Role::Admin {
            self.require_another_admin(&name).await?;
        }
        let mut changes = vec![RecordChange::delete(
            RecordClass::Account,
            name.as_str(),
            Expected::Revision(record.revision),
        )];
        for (session, _) in self.sessions_of_account(&account.id).await? {
            changes.push(RecordChange::delete(RecordClass::Session, session.key, Expected::Any));
        }
        for key in self.tokens_made_by(&account.id).await? {
            changes.push(RecordChange::delete(RecordClass::ApiToken, key, Expected::Any));
        }
        changes.push(mark);
        let act = Act { actor, act: "account.remove", subject: &name, ending: Ending::Done };
        changed(self.audit.note_with(&act, changes).await)
    }

    /// Tells whether there is any account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_accounts(&self) -> Result<bool, AccessError> {
        Ok(!self.records.records(RecordClass::Account, "", 1).await?.is_empty())
    }

    async fn require_another_admin(&self, name: &str) -> Result<(), AccessError> {
        let accounts = self.accounts().await?;
        let another =
            |account: &AccountSummary| account.role == Role::Admin && account.name != name;
        if accounts.iter().any(another) { Ok(()) } else { Err(AccessError::LastAdmin) }
    }

    /// Prepares the change of the mark; what is read after this holds until it is made.
    async fn mark(&self) -> Result<RecordChange, AccessError> {
        let mark = self.records.record(RecordClass::Setting, ACCOUNTS_MARK).await?;
        let expected = mark.map_or(Expected::Absent, |mark| Expected::Revision(mark.revision));
        Ok(RecordChange::put(RecordClass::Setting, ACCOUNTS_MARK, expected, "{}"))
    }

    /// Reads every record of a class, in the order of the keys.
    pub(super) async fn all_records(&self, class: RecordClass) -> Result<Vec<Record>, AccessError> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map(|record| record.key.as_str()).unwrap_or_default();
            let page = self.records.records(class, after, ACCESS_PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

/// Replaces the body of a record that must not have changed since.
fn replace(record: &Record, account: &Account) -> RecordChange {
    RecordChange::put(
        RecordClass::Account,
        record.key.as_str(),
        Expected::Revision(record.revision),
        text(account),
    )
}

/// Turns a conflict into what somebody can understand.
pub(super) fn changed(outcome: Result<(), StoreError>) -> Result<(), AccessError> {
    match outcome {
        Err(StoreError::Conflict { .. }) => Err(AccessError::Changed),
        outcome => Ok(outcome?),
    }
}
