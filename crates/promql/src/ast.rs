//! The tree of a query. Parentheses and unary plus are gone; durations are
//! milliseconds, except those that depend on the query's step or range; types
//! have been checked. Nodes that annotations point at know their place.

use lm_model::{Matcher, Timestamp};

use crate::parse::Place;

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Number(f64),
    String(String),
    /// `metric{...}`
    Selector(Selector),
    /// `metric{...}[5m]`
    Range(RangeSelector),
    Subquery(Box<Subquery>),
    Negate(Box<Expr>),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Call),
}

/// Where in the query's text a node stands.
#[derive(Clone, Copy, Debug, Default, Eq)]
pub struct Span {
    /// Its first byte and the one behind its last.
    pub start: usize,
    pub end: usize,
    /// Of the first byte, as a person counts.
    pub place: Place,
}

/// Trees are compared by what they mean, wherever their nodes stand.
impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// As Prometheus words it in errors.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

impl Expr {
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Selector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::Range(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Negate(inner) => inner.value_type(),
            Expr::Binary(binary) => match (binary.left.value_type(), binary.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Expr::Call(call) => call.function.value_type(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// The metric's name is one of them.
    pub matchers: Vec<Matcher>,
    /// Positive looks back.
    pub offset_millis: i64,
    /// What the offset depends on, if it does on the query's times.
    pub offset: Option<Box<Duration>>,
    pub at: Option<At>,
    /// `anchored` or `smoothed`.
    pub extension: Option<Extension>,
    pub span: Span,
}

/// How a selector takes samples beyond its window into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// The last sample before the window stands for its beginning.
    Anchored,
    /// Values at both ends are interpolated.
    Smoothed,
}

impl Extension {
    pub fn name(self) -> &'static str {
        match self {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        }
    }
}

/// A duration that is known when the query's times are, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Duration {
    Seconds(f64),
    /// `step()`: between two steps; 0 in an instant query.
    Step,
    /// `range()`: from the query's start to its end.
    Range,
    Negate(Box<Duration>),
    /// With an arithmetic operator.
    Binary(BinaryOp, Box<Duration>, Box<Duration>),
    Min(Box<Duration>, Box<Duration>),
    Max(Box<Duration>, Box<Duration>),
}

/// `@`: evaluate at a fixed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Time(Timestamp),
    /// The first time of the whole query.
    Start,
    /// The last time of the whole query.
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RangeSelector {
    pub selector: Selector,
    pub range_millis: i64,
    /// What the range depends on, if it does on the query's times.
    pub range: Option<Box<Duration>>,
}

/// `expr[range:step]`
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Expr,
    pub range_millis: i64,
    /// The engine's default if there is none.
    pub step_millis: Option<i64>,
    pub offset_millis: i64,
    pub at: Option<At>,
    /// What range, step and offset depend on, if they do on the query's times.
    pub range: Option<Box<Duration>>,
    pub step: Option<Box<Duration>>,
    pub offset: Option<Box<Duration>>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
    /// `</`: keeps the observations of a histogram below a value.
    TrimUpper,
    /// `>/`: keeps those above.
    TrimLower,
}

impl Default for Matching {
    /// All labels must be equal.
    fn default() -> Self {
        Matching {
            is_on: false,
            labels: Vec::new(),
            cardinality: Cardinality::OneToOne,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        }
    }
}

impl BinaryOp {
    /// From loose to tight.
    pub fn precedence(self) -> u8 {
        use BinaryOp::*;
        match self {
            Or => 1,
            And | Unless => 2,
            Eq | Ne | Gt | Lt | Ge | Le | TrimUpper | TrimLower => 3,
            Add | Sub => 4,
            Mul | Div | Mod | Atan2 => 5,
            Pow => 6,
        }
    }

    /// As it is written.
    pub fn symbol(self) -> &'static str {
        use BinaryOp::*;
        match self {
            Add => "+",
            Sub => "-",
            Mul => "*",
            Div => "/",
            Mod => "%",
            Pow => "^",
            Atan2 => "atan2",
            Eq => "==",
            Ne => "!=",
            Gt => ">",
            Lt => "<",
            Ge => ">=",
            Le => "<=",
            And => "and",
            Or => "or",
            Unless => "unless",
            TrimUpper => "</",
            TrimLower => ">/",
        }
    }

    /// The operator that is written so; words in lower case.
    pub fn from_symbol(symbol: &str) -> Option<BinaryOp> {
        use BinaryOp::*;
        let all = [
            Add, Sub, Mul, Div, Mod, Pow, Atan2, Eq, Ne, Gt, Lt, Ge, Le, And, Or, Unless, TrimUpper,
            TrimLower,
        ];
        all.into_iter().find(|op| op.symbol() == symbol)
    }

    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }

    /// Whether it trims histograms.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }

    /// Whether its result is no longer what the metric's name says.
    pub fn changes_metric(self) -> bool {
        use BinaryOp::*;
        matches!(self, Add | Sub | Mul | Div | Mod | Pow | Atan2)
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub left: Expr,
    pub right: Expr,
    /// `bool`: compare to 0 or 1 instead of filtering.
    pub returns_bool: bool,
    pub matching: Matching,
    pub span: Span,
}

/// How series of both sides find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// `on` if true, else `ignoring`.
    pub is_on: bool,
    pub labels: Vec<String>,
    pub cardinality: Cardinality,
    /// Labels that `group_left` or `group_right` copies from the "one" side.
    pub include: Vec<String>,
    /// What stands for a sample that is missing on a side.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    pub fn name(self) -> &'static str {
        use AggregateOp::*;
        match self {
            Sum => "sum",
            Avg => "avg",
            Count => "count",
            Min => "min",
            Max => "max",
            Group => "group",
            Stddev => "stddev",
            Stdvar => "stdvar",
            TopK => "topk",
            BottomK => "bottomk",
            CountValues => "count_values",
            Quantile => "quantile",
            LimitK => "limitk",
            LimitRatio => "limit_ratio",
        }
    }

    pub fn from_name(name: &str) -> Option<AggregateOp> {
        use AggregateOp::*;
        let all = [
            Sum,
            Avg,
            Count,
            Min,
            Max,
            Group,
            Stddev,
            Stdvar,
            TopK,
            BottomK,
            CountValues,
            Quantile,
            LimitK,
            LimitRatio,
        ];
        all.into_iter().find(|op| op.name() == name)
    }

    /// `topk(5, x)` and its like.
    pub fn takes_parameter(self) -> bool {
        use AggregateOp::*;
        matches!(self, TopK | BottomK | CountValues | Quantile | LimitK | LimitRatio)
    }

    /// Prometheus may still change it.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::LimitK | AggregateOp::LimitRatio)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Expr,
    /// `k`, the quantile, or the label of `count_values`.
    pub param: Option<Expr>,
    pub grouping: Grouping,
    pub span: Span,
    pub expr_span: Span,
    pub param_span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub function: Function,
    pub args: Vec<Expr>,
    pub span: Span,
    /// One for each argument.
    pub arg_spans: Vec<Span>,
}

impl Call {
    /// Where an argument stands; the call itself if there is no such.
    pub fn arg_span(&self, index: usize) -> Span {
        self.arg_spans.get(index).copied().unwrap_or(self.span)
    }
}

macro_rules! functions {
    ($($name:literal $variant:ident $value_type:ident $stability:ident,)*) => {
        /// A function that the evaluator knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function {
            $($variant,)*
        }

        impl Function {
            pub fn from_name(name: &str) -> Option<Function> {
                match name {
                    $($name => Some(Function::$variant),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Function::$variant => $name,)*
                }
            }

            pub fn value_type(self) -> ValueType {
                match self {
                    $(Function::$variant => ValueType::$value_type,)*
                }
            }

            /// Prometheus may still change it.
            pub fn is_experimental(self) -> bool {
                match self {
                    $(Function::$variant => stringify!($stability) == "Experimental",)*
                }
            }

            pub const ALL: &[Function] = &[$(Function::$variant,)*];
        }
    };
}

functions! {
    "abs" Abs Vector Stable,
    "absent" Absent Vector Stable,
    "absent_over_time" AbsentOverTime Vector Stable,
    "acos" Acos Vector Stable,
    "acosh" Acosh Vector Stable,
    "asin" Asin Vector Stable,
    "asinh" Asinh Vector Stable,
    "atan" Atan Vector Stable,
    "atanh" Atanh Vector Stable,
    "avg_over_time" AvgOverTime Vector Stable,
    "ceil" Ceil Vector Stable,
    "changes" Changes Vector Stable,
    "clamp" Clamp Vector Stable,
    "clamp_max" ClampMax Vector Stable,
    "clamp_min" ClampMin Vector Stable,
    "cos" Cos Vector Stable,
    "cosh" Cosh Vector Stable,
    "count_over_time" CountOverTime Vector Stable,
    "day_of_month" DayOfMonth Vector Stable,
    "day_of_week" DayOfWeek Vector Stable,
    "day_of_year" DayOfYear Vector Stable,
    "days_in_month" DaysInMonth Vector Stable,
    "deg" Deg Vector Stable,
    "delta" Delta Vector Stable,
    "deriv" Deriv Vector Stable,
    "double_exponential_smoothing" DoubleExponentialSmoothing Vector Experimental,
    "end" End Scalar Experimental,
    "exp" Exp Vector Stable,
    "first_over_time" FirstOverTime Vector Stable,
    "floor" Floor Vector Stable,
    "histogram_avg" HistogramAvg Vector Stable,
    "histogram_count" HistogramCount Vector Stable,
    "histogram_fraction" HistogramFraction Vector Stable,
    "histogram_quantile" HistogramQuantile Vector Stable,
    "histogram_quantiles" HistogramQuantiles Vector Experimental,
    "histogram_stddev" HistogramStddev Vector Stable,
    "histogram_stdvar" HistogramStdvar Vector Stable,
    "histogram_sum" HistogramSum Vector Stable,
    "hour" Hour Vector Stable,
    "idelta" Idelta Vector Stable,
    "increase" Increase Vector Stable,
    "info" Info Vector Experimental,
    "irate" Irate Vector Stable,
    "label_join" LabelJoin Vector Stable,
    "label_replace" LabelReplace Vector Stable,
    "last_over_time" LastOverTime Vector Stable,
    "ln" Ln Vector Stable,
    "log10" Log10 Vector Stable,
    "log2" Log2 Vector Stable,
    "mad_over_time" MadOverTime Vector Experimental,
    "max_of" MaxOf Scalar Experimental,
    "max_over_time" MaxOverTime Vector Stable,
    "min_of" MinOf Scalar Experimental,
    "min_over_time" MinOverTime Vector Stable,
    "minute" Minute Vector Stable,
    "month" Month Vector Stable,
    "pi" Pi Scalar Stable,
    "predict_linear" PredictLinear Vector Stable,
    "present_over_time" PresentOverTime Vector Stable,
    "quantile_over_time" QuantileOverTime Vector Stable,
    "rad" Rad Vector Stable,
    "range" Range Scalar Experimental,
    "rate" Rate Vector Stable,
    "resets" Resets Vector Stable,
    "round" Round Vector Stable,
    "scalar" Scalar Scalar Stable,
    "sgn" Sgn Vector Stable,
    "sin" Sin Vector Stable,
    "sinh" Sinh Vector Stable,
    "sort" Sort Vector Stable,
    "sort_by_label" SortByLabel Vector Experimental,
    "sort_by_label_desc" SortByLabelDesc Vector Experimental,
    "sort_desc" SortDesc Vector Stable,
    "sqrt" Sqrt Vector Stable,
    "start" Start Scalar Experimental,
    "start_timestamp" StartTimestamp Vector Experimental,
    "stddev_over_time" StddevOverTime Vector Stable,
    "stdvar_over_time" StdvarOverTime Vector Stable,
    "step" Step Scalar Experimental,
    "sum_over_time" SumOverTime Vector Stable,
    "tan" Tan Vector Stable,
    "tanh" Tanh Vector Stable,
    "time" Time Scalar Stable,
    "timestamp" Timestamp Vector Stable,
    "ts_of_first_over_time" TsOfFirstOverTime Vector Experimental,
    "ts_of_last_over_time" TsOfLastOverTime Vector Experimental,
    "ts_of_max_over_time" TsOfMaxOverTime Vector Experimental,
    "ts_of_min_over_time" TsOfMinOverTime Vector Experimental,
    "vector" Vector Vector Stable,
    "year" Year Vector Stable,
}
