//! The syntax tree: what was written, with the place it was written at.

use std::fmt;
use std::sync::Arc;

use crate::model::{Matcher, TimestampMs};

/// Byte offsets into the query text: `start` inclusive, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// The four types of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One float.
    Scalar,
    /// Samples of many series at one time.
    Vector,
    /// Samples of many series over a range.
    Matrix,
    /// Text.
    String,
}

impl ValueType {
    /// As error messages write it.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }

    /// As the HTTP API's `resultType` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

/// An expression and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `1.5`, `0x1f`, `5m` where a number is wanted.
    Number(NumberLiteral),
    /// `"text"`.
    String(String),
    /// `(expr)`.
    Paren(Box<Expr>),
    /// `-expr` or `+expr`.
    Unary(UnaryOp, Box<Expr>),
    /// `left op right`.
    Binary(Box<BinaryExpr>),
    /// `sum by (job) (expr)`.
    Aggregate(Box<AggregateExpr>),
    /// `rate(expr)`.
    Call(Call),
    /// `up{job="node"} offset 5m`.
    Vector(VectorSelector),
    /// `up[5m]`.
    Matrix(Box<MatrixSelector>),
    /// `expr[5m:1m]`.
    Subquery(Box<SubqueryExpr>),
}

/// A number and whether it was written as a duration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberLiteral {
    /// The value; seconds for a duration.
    pub value: f64,
    /// Written as `5m`, so printed as `5m`.
    pub is_duration: bool,
}

/// Signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// Operators between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the operators")]
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
    /// `</`: drop observations above the right side.
    TrimUpper,
    /// `>/`: drop observations below the right side.
    TrimLower,
}

impl BinaryOp {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Pow,
        Self::Atan2,
        Self::Eq,
        Self::Ne,
        Self::Gt,
        Self::Lt,
        Self::Ge,
        Self::Le,
        Self::And,
        Self::Or,
        Self::Unless,
        Self::TrimUpper,
        Self::TrimLower,
    ];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// One of `== != > < >= <=`.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le
        )
    }

    /// One of `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// An operator with its operands and modifiers.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryExpr {
    /// Which operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Expr,
    /// Right operand.
    pub rhs: Expr,
    /// `bool` was written.
    pub return_bool: bool,
    /// How vectors pair up; `None` unless both operands are instant vectors.
    pub matching: Option<VectorMatching>,
}

/// How many series of one side may meet how many of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One each.
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// Which series of the two sides belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    /// How many meet how many.
    pub card: Cardinality,
    /// Labels in `on (…)` or `ignoring (…)`, as written.
    pub labels: Vec<String>,
    /// `on` rather than `ignoring`.
    pub on: bool,
    /// Labels in `group_left (…)` or `group_right (…)`, as written.
    pub include: Vec<String>,
    /// Value for series missing on the left.
    pub fill_left: Option<f64>,
    /// Value for series missing on the right.
    pub fill_right: Option<f64>,
}

/// The aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// Every one; the lexer knows no others.
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::CountValues,
        Self::Quantile,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Takes a parameter before the vector.
    pub fn takes_param(self) -> bool {
        matches!(
            self,
            Self::Topk
                | Self::Bottomk
                | Self::CountValues
                | Self::Quantile
                | Self::Limitk
                | Self::LimitRatio
        )
    }
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateExpr {
    /// Which.
    pub op: AggregateOp,
    /// Over what.
    pub expr: Expr,
    /// The parameter of `topk`, `quantile` and the like.
    pub param: Option<Expr>,
    /// Labels in `by (…)` or `without (…)`, as written.
    pub grouping: Vec<String>,
    /// `without` rather than `by` (or nothing).
    pub without: bool,
}

/// A function call; the parser has checked name, arity and types.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which function; compare [`Function::name`].
    pub func: &'static Function,
    /// The arguments.
    pub args: Vec<Expr>,
}

/// What the parser knows of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// As written.
    pub name: &'static str,
    /// Types of the arguments; the last one repeats for a variadic function.
    pub arg_types: &'static [ValueType],
    /// `0`: exactly `arg_types`. `n > 0`: the last `n` of `arg_types` may be left out. `-1`: the last may repeat or be left out.
    pub variadic: i32,
    /// Type of the result.
    pub return_type: ValueType,
    /// Gated behind `promql-experimental-functions` upstream.
    pub is_experimental: bool,
}

/// `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtModifier {
    /// `@ 1234.5`.
    Timestamp(TimestampMs),
    /// `@ start()`.
    Start,
    /// `@ end()`.
    End,
}

/// `anchored` or `smoothed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extend {
    /// Take the last sample before the range as its left edge.
    Anchored,
    /// Interpolate at both edges.
    Smoothed,
}

/// A duration as written: a plain one, or arithmetic that is computed when the query's bounds are known.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationSpec {
    /// Known now.
    Ms(i64),
    /// Known once `step()`, `range()` and the like are.
    Expr(Box<DurationExpr>),
}

/// Arithmetic over durations, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// A literal.
    Number(NumberLiteral, Span),
    /// `step()`.
    Step(Span),
    /// `range()`.
    Range(Span),
    /// `-x` or `+x`.
    Unary(UnaryOp, Box<DurationExpr>, Span),
    /// `x op y`, op one of `+ - * / % ^`.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `min_of(x, y)` (false) or `max_of(x, y)` (true).
    MinMax(bool, Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `(x)`.
    Paren(Box<DurationExpr>, Span),
}

/// Samples of series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The name as written before the braces, if any. `matchers` has it too.
    pub name: Option<String>,
    /// All matchers, in the order written; the name's comes last, as Prometheus keeps it.
    pub matchers: Vec<Arc<Matcher>>,
    /// `offset`, positive into the past.
    pub offset: Option<DurationSpec>,
    /// `@`.
    pub at: Option<AtModifier>,
    /// `anchored` or `smoothed`.
    pub extend: Option<Extend>,
}

/// Samples of series over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// Which series; carries offset, `@` and `anchored`/`smoothed`.
    pub selector: VectorSelector,
    /// Where the selector stands without the brackets.
    pub selector_span: Span,
    /// How long.
    pub range: DurationSpec,
}

/// An expression evaluated many times over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct SubqueryExpr {
    /// What.
    pub expr: Expr,
    /// How long.
    pub range: DurationSpec,
    /// How often; `None` means the engine's default.
    pub step: Option<DurationSpec>,
    /// `offset`, positive into the past.
    pub offset: Option<DurationSpec>,
    /// `@`.
    pub at: Option<AtModifier>,
}

impl Expr {
    /// The type of the value this expression has.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => inner.value_type(),
            ExprKind::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            ExprKind::Aggregate(_) | ExprKind::Vector(_) => ValueType::Vector,
            ExprKind::Call(call) => call.func.return_type,
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
        }
    }

    /// The expression inside any number of parentheses.
    pub fn unparen(&self) -> &Self {
        let mut here = self;
        while let ExprKind::Paren(inner) = &here.kind {
            here = inner;
        }
        here
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.documented())
    }
}
