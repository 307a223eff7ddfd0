//! From what a job or file says of a target to what is asked and how its
//! series are labelled.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::job::{Job, Scheme};
use super::relabel::{LabelMap, relabel};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const PARAM: &str = "__param_";
pub const JOB: &str = "job";
pub const INSTANCE: &str = "instance";

/// What is scraped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
    /// As it stands in the `Host` header.
    pub address: String,
    /// Path and query.
    pub path: String,
    /// What its series have, `job` and `instance` among them.
    pub labels: LabelMap,
}

impl Target {
    /// The target with the `discovered` labels, `__address__` among them;
    /// `None` when relabeling drops it.
    ///
    /// # Errors
    ///
    /// Why it cannot be scraped, for people.
    pub fn new(job: &Job, discovered: &LabelMap) -> Result<Option<Target>, String> {
        let mut labels = LabelMap::new();
        labels.insert(JOB.to_owned(), job.name.clone());
        labels.insert(SCHEME.to_owned(), job.scheme.name().to_owned());
        labels.insert(METRICS_PATH.to_owned(), job.metrics_path.clone());
        for (name, values) in &job.params {
            if let Some(first) = values.first() {
                labels.insert(format!("{PARAM}{name}"), first.clone());
            }
        }
        labels.extend(discovered.iter().map(|(name, value)| (name.clone(), value.clone())));
        if !relabel(&job.relabel, &mut labels) {
            return Ok(None);
        }
        let take = |labels: &mut LabelMap, name: &str| labels.remove(name).unwrap_or_default();
        let address = take(&mut labels, ADDRESS);
        let scheme = take(&mut labels, SCHEME);
        let scheme = Scheme::NAMES
            .iter()
            .find(|(name, _)| *name == scheme)
            .map(|(_, scheme)| *scheme)
            .ok_or_else(|| format!("__scheme__ is {scheme:?}; expected http or https"))?;
        let (host, port) = split_address(&address, scheme)?;
        let path = path_and_query(job, &take(&mut labels, METRICS_PATH), &labels)?;
        labels.retain(|name, value| !name.starts_with("__") && !value.is_empty());
        labels.entry(INSTANCE.to_owned()).or_insert_with(|| address.clone());
        Ok(Some(Target { scheme, host, port, address, path, labels }))
    }

    /// Where in each interval the target's turn is: spread over targets, the
    /// same after a restart.
    pub fn offset(&self, interval: Duration) -> Duration {
        let mut hasher = DefaultHasher::default();
        self.hash(&mut hasher);
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(hasher.finish() % nanos)
    }

    /// For logs.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.name(), self.address, self.path)
    }
}

fn split_address(address: &str, scheme: Scheme) -> Result<(String, u16), String> {
    let bad = || format!("__address__ is {address:?}; expected \"host:port\"");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:[]_-%".contains(&byte);
    if address.is_empty() || !address.bytes().all(is_plain) {
        return Err(bad());
    }
    let has_port = address.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let (host, port) = match has_port {
        Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
        None => (address, scheme.port()),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

fn path_and_query(job: &Job, path: &str, labels: &LabelMap) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        return Err(format!("__metrics_path__ is {path:?}; expected a path such as \"/metrics\""));
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (label, value) in labels {
        let Some(name) = label.strip_prefix(PARAM) else { continue };
        query.append_pair(name, value);
        // Relabeling sees and changes the first value of a parameter.
        let others = job.params.get(name).into_iter().flat_map(|values| values.iter().skip(1));
        for value in others {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let joint = if query.is_empty() {
        ""
    } else if path.contains('?') {
        "&"
    } else {
        "?"
    };
    Ok(format!("{path}{joint}{query}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::relabel::{Action, Pattern, Rule};
    use super::*;

    fn discovered(pairs: &[(&str, &str)]) -> LabelMap {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn addresses() {
        for (address, expected) in [
            ("a:9100", Ok(("a".to_owned(), 9100))),
            ("a", Ok(("a".to_owned(), 80))),
            ("[::1]:9100", Ok(("::1".to_owned(), 9100))),
            ("[::1]", Ok(("::1".to_owned(), 80))),
            ("", Err("__address__ is \"\"; expected \"host:port\"".to_owned())),
            (":9100", Err("__address__ is \":9100\"; expected \"host:port\"".to_owned())),
            ("a:b", Err("__address__ is \"a:b\"; expected \"host:port\"".to_owned())),
            ("a:1/x", Err("__address__ is \"a:1/x\"; expected \"host:port\"".to_owned())),
            ("a b:1", Err("__address__ is \"a b:1\"; expected \"host:port\"".to_owned())),
            ("a\r\n:1", Err("__address__ is \"a\\r\\n:1\"; expected \"host:port\"".to_owned())),
        ] {
            assert_eq!(split_address(address, Scheme::Http), expected);
        }
    }

    #[test]
    fn labels_decide_what_is_asked() {
        let rule = |source: &str, target: &str| Rule {
            source_labels: vec![source.to_owned()],
            target_label: target.to_owned(),
            ..Rule::default()
        };
        // The black-box pattern: the address becomes a parameter.
        let job = Job {
            name: "probe".to_owned(),
            metrics_path: "/probe".to_owned(),
            params: BTreeMap::from([("module".to_owned(), vec!["http_2xx".to_owned(), "b&c".to_owned()])]),
            relabel: vec![
                rule("__address__", "__param_target"),
                rule("__param_target", "instance"),
                Rule { replacement: "127.0.0.1:9115".to_owned(), ..rule("", "__address__") },
                Rule { action: Action::Drop, regex: Pattern::new("off").unwrap(), ..rule("state", "") },
            ],
            ..Job::default()
        };
        let found = discovered(&[("__address__", "https://a/?b"), ("__meta_x", "1"), ("env", "prod")]);
        let target = Target::new(&job, &found).unwrap().unwrap();
        assert_eq!(
            target.url(),
            "http://127.0.0.1:9115/probe?module=http_2xx&module=b%26c&target=https%3A%2F%2Fa%2F%3Fb"
        );
        let labels = discovered(&[("env", "prod"), ("instance", "https://a/?b"), ("job", "probe")]);
        assert_eq!(target.labels, labels);
        let found = discovered(&[("__address__", "a"), ("state", "off")]);
        assert_eq!(Target::new(&job, &found), Ok(None));
        assert_eq!(target.offset(Duration::from_secs(10)), target.clone().offset(Duration::from_secs(10)));
        assert!(target.offset(Duration::from_secs(10)) < Duration::from_secs(10));
    }
}
