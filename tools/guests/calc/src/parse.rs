//! Turns pieces into a tree. Binding, weakest first: `+ -`, then `* / % of`, then the sign, then `^` (from the right),
//! then percent.

use num_rational::BigRational;
use tool::Error;

use crate::token::Token;

/// Deeper nesting than people write; the parser and the evaluator recurse this far at most.
const MAX_DEPTH: usize = 64;

/// What to compute.
#[derive(Debug)]
pub(crate) enum Tree {
    Number(BigRational),
    Negate(Box<Tree>),
    Percent(Box<Tree>),
    /// Operands joined from the left: a long sum is a long list and not a deep tree.
    Chain(Box<Tree>, Vec<(Operator, Tree)>),
    Power(Box<Tree>, Box<Tree>),
    Call(String, Vec<Tree>),
}

/// What joins two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Reads the whole expression.
pub(crate) fn parse(tokens: &[Token]) -> Result<Tree, Error> {
    let mut parser = Parser {
        rest: tokens,
        depth: 0,
    };
    let tree = parser.sum()?;
    match parser.rest.first() {
        None => Ok(tree),
        Some(Token::Sign(')')) => Err(Error::invalid("there is a `)` without its `(`")),
        Some(Token::Sign(',')) => Err(Error::invalid(
            "a comma only separates a function's arguments; write numbers without thousands separators",
        )),
        Some(token) => Err(Error::invalid(format!(
            "an operator is missing before {}",
            show(token)
        ))),
    }
}

fn show(token: &Token) -> String {
    match token {
        Token::Number(number) => format!("`{number}`"),
        Token::Name(name) => format!("`{name}`"),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

struct Parser<'a> {
    rest: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<Tree, Error> {
        self.deeper(|parser| {
            parser.chain(Self::product, |parser| match parser.rest.first() {
                Some(Token::Sign('+')) => Some(Operator::Add),
                Some(Token::Sign('-')) => Some(Operator::Subtract),
                _ => None,
            })
        })
    }

    fn product(&mut self) -> Result<Tree, Error> {
        self.chain(Self::signed, |parser| match parser.rest.first() {
            Some(Token::Sign('*')) => Some(Operator::Multiply),
            Some(Token::Sign('/')) => Some(Operator::Divide),
            Some(Token::Sign('%')) => Some(Operator::Remainder),
            Some(Token::Name(name)) if name == "of" => Some(Operator::Multiply),
            _ => None,
        })
    }

    fn chain(
        &mut self,
        operand: fn(&mut Self) -> Result<Tree, Error>,
        operator: fn(&Self) -> Option<Operator>,
    ) -> Result<Tree, Error> {
        let first = operand(self)?;
        let mut more = Vec::new();
        while let Some(operator) = operator(self) {
            self.next();
            more.push((operator, operand(self)?));
        }
        Ok(if more.is_empty() {
            first
        } else {
            Tree::Chain(Box::new(first), more)
        })
    }

    fn signed(&mut self) -> Result<Tree, Error> {
        match self.rest.first() {
            Some(Token::Sign('-')) => {
                self.next();
                self.deeper(Self::signed).map(|tree| Tree::Negate(Box::new(tree)))
            }
            Some(Token::Sign('+')) => {
                self.next();
                self.deeper(Self::signed)
            }
            _ => self.power(),
        }
    }

    fn power(&mut self) -> Result<Tree, Error> {
        let base = self.percent()?;
        if self.rest.first() != Some(&Token::Sign('^')) {
            return Ok(base);
        }
        self.next();
        let exponent = self.deeper(Self::signed)?;
        Ok(Tree::Power(Box::new(base), Box::new(exponent)))
    }

    /// `%` is a remainder when an operand follows at once, and percent otherwise: "17 % 5", "50% - 3", "5% of 10".
    fn percent(&mut self) -> Result<Tree, Error> {
        let mut tree = self.atom()?;
        while self.rest.first() == Some(&Token::Sign('%')) {
            match self.rest.get(1) {
                Some(Token::Number(_) | Token::Sign('(')) => break,
                Some(Token::Name(name)) if name != "of" => break,
                _ => {}
            }
            self.next();
            tree = Tree::Percent(Box::new(tree));
            // Each one nests the tree once more.
            self.depth += 1;
            self.bounded()?;
        }
        Ok(tree)
    }

    fn atom(&mut self) -> Result<Tree, Error> {
        match self.next() {
            Some(Token::Number(number)) => Ok(Tree::Number(number.clone())),
            Some(Token::Sign('(')) => {
                let tree = self.sum()?;
                self.close()?;
                Ok(tree)
            }
            Some(Token::Name(name)) => self.call(name.clone()),
            Some(token) => Err(Error::invalid(format!(
                "a number is missing before {}",
                show(&token)
            ))),
            None => Err(Error::invalid("the expression ends where a number should follow")),
        }
    }

    fn call(&mut self, name: String) -> Result<Tree, Error> {
        if self.next() != Some(Token::Sign('(')) {
            return Err(Error::invalid(format!(
                "`{name}` is not known; there are no variables, and functions are written like round(2.5)"
            )));
        }
        let mut arguments = Vec::new();
        if self.rest.first() != Some(&Token::Sign(')')) {
            arguments.push(self.sum()?);
            while self.rest.first() == Some(&Token::Sign(',')) {
                self.next();
                arguments.push(self.sum()?);
            }
        }
        self.close()?;
        Ok(Tree::Call(name, arguments))
    }

    fn close(&mut self) -> Result<(), Error> {
        match self.next() {
            Some(Token::Sign(')')) => Ok(()),
            Some(token) => Err(Error::invalid(format!(
                "a `)` or an operator is missing before {}",
                show(&token)
            ))),
            None => Err(Error::invalid("a `)` is missing at the end")),
        }
    }

    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first.clone())
    }

    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Result<Tree, Error>) -> Result<Tree, Error> {
        self.depth += 1;
        self.bounded()?;
        let tree = inner(self);
        self.depth -= 1;
        tree
    }

    fn bounded(&self) -> Result<(), Error> {
        if self.depth <= MAX_DEPTH {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the expression is nested more than {MAX_DEPTH} deep"
        )))
    }
}
