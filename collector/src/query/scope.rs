//! What one reader sees. The scope stands below the query language: whatever
//! a query says, the evaluator has no other way to the data than this.

use std::fmt;
use std::sync::Arc;

use lm_logs::{Direction, LineFilter, LogQuery};
use lm_mesh::Scope;
use lm_model::{Labels, Matcher};
use lm_promql::{SelectRequest, Selected, Storage, StorageError};

use crate::access::AgentScopes;
use crate::ingest::stamp;
use crate::log_filter::everything;
use crate::store::Store;

/// The limit of one reader.
pub struct ReadScope {
    /// Each must match; none: everything is in scope.
    selector: Vec<Matcher>,
    /// The same, ready to judge labels.
    labels: Option<LineFilter>,
    agents: AgentScopes,
}

impl ReadScope {
    /// # Errors
    ///
    /// A text when a matcher makes no sense; it was checked when it was read.
    pub fn new(scope: &Scope, agents: AgentScopes) -> Result<Arc<ReadScope>, String> {
        let selector = scope.selector.clone();
        let labels = if selector.is_empty() {
            None
        } else {
            let query = LogQuery { matchers: selector.clone(), ..everything(Direction::Backward) };
            Some(LineFilter::new(&query).map_err(|error| error.to_string())?)
        };
        Ok(Arc::new(ReadScope { selector, labels, agents }))
    }

    /// Whether nothing is out of scope.
    pub fn is_everything(&self) -> bool {
        self.selector.is_empty()
    }

    /// `matchers`, narrowed to the scope.
    pub fn narrow(&self, matchers: &[Matcher]) -> Vec<Matcher> {
        matchers.iter().chain(&self.selector).cloned().collect()
    }

    /// Whether labels are in scope.
    pub fn takes(&self, labels: &Labels) -> bool {
        self.labels.as_ref().is_none_or(|filter| filter.matches(labels, b""))
    }

    /// Whether what is said of an agent as a whole is in scope. Only labels
    /// that all of its data has can be judged; with any other in the scope,
    /// the agent is left out.
    pub fn takes_agent(&self, agent: &str) -> bool {
        if self.selector.is_empty() {
            return true;
        }
        let given = self.agents.scope(agent).map_or_else(Labels::empty, |scope| scope.labels.clone());
        let stamp = stamp(agent, &given);
        self.selector.iter().all(|matcher| stamp.get(&matcher.name).is_some()) && self.takes(&stamp)
    }
}

impl fmt::Display for ReadScope {
    /// As an operator sees it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.selector.is_empty() {
            return f.write_str("everything");
        }
        let matchers: Vec<_> =
            self.selector.iter().map(|m| format!("{}{}{:?}", m.name, m.op, m.value)).collect();
        write!(f, "{{{}}}", matchers.join(","))
    }
}

/// The part of a store that is in scope.
pub struct Scoped<'a> {
    pub store: &'a Store,
    pub scope: &'a ReadScope,
}

impl Storage for Scoped<'_> {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let matchers = self.scope.narrow(request.matchers);
        self.store.select(SelectRequest { matchers: &matchers, ..request })
    }
}
