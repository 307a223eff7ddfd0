//! The tree of a query. Parentheses and unary plus are gone; durations are
//! milliseconds; types have been checked.

use lm_model::{Matcher, Timestamp};

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

#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The metric's name is one of them.
    pub matchers: Vec<Matcher>,
    /// Positive looks back.
    pub offset_millis: i64,
    pub at: Option<At>,
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
}

impl Default for Matching {
    /// All labels must be equal.
    fn default() -> Self {
        Matching { is_on: false, labels: Vec::new(), cardinality: Cardinality::OneToOne, include: Vec::new() }
    }
}

impl BinaryOp {
    /// From loose to tight.
    pub fn precedence(self) -> u8 {
        use BinaryOp::*;
        match self {
            Or => 1,
            And | Unless => 2,
            Eq | Ne | Gt | Lt | Ge | Le => 3,
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
        }
    }

    /// The operator that is written so; words in lower case.
    pub fn from_symbol(symbol: &str) -> Option<BinaryOp> {
        use BinaryOp::*;
        let all = [Add, Sub, Mul, Div, Mod, Pow, Atan2, Eq, Ne, Gt, Lt, Ge, Le, And, Or, Unless];
        all.into_iter().find(|op| op.symbol() == symbol)
    }

    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
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
        }
    }

    pub fn from_name(name: &str) -> Option<AggregateOp> {
        use AggregateOp::*;
        let all = [Sum, Avg, Count, Min, Max, Group, Stddev, Stdvar, TopK, BottomK, CountValues, Quantile];
        all.into_iter().find(|op| op.name() == name)
    }

    /// `topk(5, x)` and its like.
    pub fn takes_parameter(self) -> bool {
        use AggregateOp::*;
        matches!(self, TopK | BottomK | CountValues | Quantile)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Expr,
    /// `k`, the quantile, or the label of `count_values`.
    pub param: Option<Expr>,
    pub grouping: Grouping,
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
}

macro_rules! functions {
    ($($name:literal $variant:ident $value_type:ident,)*) => {
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
        }
    };
}

functions! {
    "abs" Abs Vector,
    "absent" Absent Vector,
    "absent_over_time" AbsentOverTime Vector,
    "acos" Acos Vector,
    "acosh" Acosh Vector,
    "asin" Asin Vector,
    "asinh" Asinh Vector,
    "atan" Atan Vector,
    "atanh" Atanh Vector,
    "avg_over_time" AvgOverTime Vector,
    "ceil" Ceil Vector,
    "changes" Changes Vector,
    "clamp" Clamp Vector,
    "clamp_max" ClampMax Vector,
    "clamp_min" ClampMin Vector,
    "cos" Cos Vector,
    "cosh" Cosh Vector,
    "count_over_time" CountOverTime Vector,
    "day_of_month" DayOfMonth Vector,
    "day_of_week" DayOfWeek Vector,
    "day_of_year" DayOfYear Vector,
    "days_in_month" DaysInMonth Vector,
    "deg" Deg Vector,
    "delta" Delta Vector,
    "deriv" Deriv Vector,
    "exp" Exp Vector,
    "first_over_time" FirstOverTime Vector,
    "floor" Floor Vector,
    "histogram_avg" HistogramAvg Vector,
    "histogram_count" HistogramCount Vector,
    "histogram_fraction" HistogramFraction Vector,
    "histogram_quantile" HistogramQuantile Vector,
    "histogram_stddev" HistogramStddev Vector,
    "histogram_stdvar" HistogramStdvar Vector,
    "histogram_sum" HistogramSum Vector,
    "hour" Hour Vector,
    "idelta" Idelta Vector,
    "increase" Increase Vector,
    "irate" Irate Vector,
    "label_join" LabelJoin Vector,
    "label_replace" LabelReplace Vector,
    "last_over_time" LastOverTime Vector,
    "ln" Ln Vector,
    "log10" Log10 Vector,
    "log2" Log2 Vector,
    "max_over_time" MaxOverTime Vector,
    "min_over_time" MinOverTime Vector,
    "minute" Minute Vector,
    "month" Month Vector,
    "pi" Pi Scalar,
    "predict_linear" PredictLinear Vector,
    "present_over_time" PresentOverTime Vector,
    "quantile_over_time" QuantileOverTime Vector,
    "rad" Rad Vector,
    "rate" Rate Vector,
    "resets" Resets Vector,
    "round" Round Vector,
    "scalar" Scalar Scalar,
    "sgn" Sgn Vector,
    "sin" Sin Vector,
    "sinh" Sinh Vector,
    "sort" Sort Vector,
    "sort_desc" SortDesc Vector,
    "sqrt" Sqrt Vector,
    "stddev_over_time" StddevOverTime Vector,
    "stdvar_over_time" StdvarOverTime Vector,
    "sum_over_time" SumOverTime Vector,
    "tan" Tan Vector,
    "tanh" Tanh Vector,
    "time" Time Scalar,
    "timestamp" Timestamp Vector,
    "vector" Vector Vector,
    "year" Year Vector,
}
