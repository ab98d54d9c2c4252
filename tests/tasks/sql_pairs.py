"""Gold queries with answers that mean the same and answers that do not, over three schemas; and the schemas' rows.

Whether an answer is right was decided by its meaning: same result whatever rows the tables hold, as long as ids and
names of states, cities' ids and the like are not there twice. `test_nl2sql_pairs` checks that on random rows.
"""

# ruff: noqa: E501

TOWNS = """
CREATE TABLE city (id INTEGER, name TEXT, state TEXT, pop INTEGER, area REAL, founded TEXT);
CREATE TABLE state (sid INTEGER, name TEXT, region TEXT);
INSERT INTO city VALUES
  (1, 'austin', 'texas', 961, 319.9, '1839-12-27'), (2, 'dallas', 'texas', 1304, 385.9, '1841-11-02'),
  (3, 'boston', 'massachusetts', 675, 89.6, '1630-09-07'), (4, 'nome', 'alaska', 7, 21.6, '1901-04-09'),
  (5, 'houston', 'texas', 2304, 671.7, '1837-06-05'), (6, 'miami', 'florida', NULL, 55.3, '1896-07-28'),
  (7, 'salem', 'oregon', 175, 48.5, '1842-01-01'), (8, 'salem', 'massachusetts', 44, 18.3, '1626-01-01'),
  (9, 'juneau', 'alaska', 32, 3255.0, '1881-10-18'), (10, 'tampa', 'florida', 384, 175.8, NULL);
INSERT INTO state VALUES
  (1, 'texas', 'south'), (2, 'massachusetts', 'north'), (3, 'alaska', 'west'), (4, 'florida', 'south'),
  (5, 'ohio', 'north');
"""
SHOP = {
    "customers": [["id", "INTEGER"], ["name", "TEXT"], ["country", "TEXT"], ["joined", "DATE"]],
    "orders": [
        ["id", "INTEGER"],
        ["customer_id", "INTEGER"],
        ["total", "REAL"],
        ["status", "TEXT"],
        ["placed", "DATE"],
    ],
    "items": [["order_id", "INTEGER"], ["product_id", "INTEGER"], ["quantity", "INTEGER"]],
    "products": [["id", "INTEGER"], ["title", "TEXT"], ["price", "REAL"], ["category", "TEXT"]],
}

# (gold, answers that are right, answers that are wrong)
TOWN_PAIRS = [
    (
        "SELECT name FROM city WHERE pop > 900",
        [
            "select c.name from city as c where 900 < c.pop;",
            "SELECT name FROM city WHERE NOT pop <= 900",
            "SELECT name FROM city WHERE pop >= 901",
            'SELECT "name" FROM "city" WHERE "pop" > 900 -- the large ones',
            "WITH large AS (SELECT * FROM city WHERE pop > 900) SELECT name FROM large",
            "SELECT name FROM (SELECT name, pop FROM city) WHERE pop > 900",
            "SELECT name FROM city WHERE CASE WHEN pop > 900 THEN 1 ELSE 0 END",
            "SELECT name FROM city WHERE COALESCE(pop, 0) > 900",
            "SELECT name FROM city WHERE id IN (SELECT id FROM city WHERE pop > 900)",
            "SELECT name /* all */ FROM city WHERE pop > 900 ORDER BY founded",
        ],
        [
            "SELECT name FROM city WHERE pop >= 900",
            "SELECT name FROM city WHERE pop > 901",
            "SELECT name FROM city WHERE pop > 899",
            "SELECT name FROM city WHERE pop > 1000",
            "SELECT name FROM city WHERE pop < 900",
            "SELECT name FROM city WHERE area > 900",
            "SELECT state FROM city WHERE pop > 900",
            "SELECT DISTINCT state FROM city WHERE pop > 900",
            "SELECT name FROM city",
            "SELECT name FROM city WHERE pop > 900 OR pop IS NULL",
            "SELECT name, pop FROM city WHERE pop > 900",
            "SELECT name FROM city WHERE pop > 900 LIMIT 1",
            "SELECT UPPER(name) FROM city WHERE pop > 900",
        ],
    ),
    (
        "SELECT name FROM city WHERE state = 'texas'",
        [
            "SELECT name FROM city WHERE state IN ('texas')",
            "SELECT name FROM city WHERE state IS 'texas'",
            'SELECT name FROM city WHERE state = "texas"',
            "SELECT name FROM city WHERE state BETWEEN 'texas' AND 'texas'",
            "SELECT name FROM city c WHERE EXISTS (SELECT 1 FROM city d WHERE d.id = c.id AND d.state = 'texas')",
            "SELECT name FROM city GROUP BY id HAVING state = 'texas'",
        ],
        [
            "SELECT name FROM city WHERE state LIKE '%texas%'",
            "SELECT name FROM city WHERE state <> 'texas'",
            "SELECT name FROM city WHERE state = 'Texas'",
            "SELECT name FROM city WHERE state = 'texas' AND pop > 1000",
            "SELECT name FROM city WHERE name = 'texas'",
            "SELECT DISTINCT state FROM city WHERE state = 'texas'",
            "SELECT name FROM state WHERE name = 'texas'",
            "SELECT 'austin' UNION ALL SELECT 'dallas' UNION ALL SELECT 'houston'",
        ],
    ),
    (
        "SELECT name FROM city WHERE name NOT LIKE '%o%'",
        [
            "SELECT name FROM city WHERE NOT name LIKE '%o%'",
            "SELECT name FROM city WHERE INSTR(LOWER(name), 'o') = 0",
            "SELECT name FROM city WHERE id NOT IN (SELECT id FROM city WHERE name LIKE '%o%')",
        ],
        [
            "SELECT name FROM city WHERE name LIKE '%o%'",
            "SELECT name FROM city WHERE name NOT LIKE 'o%'",
            "SELECT name FROM city WHERE name NOT LIKE '%o'",
            "SELECT name FROM city WHERE name NOT GLOB '*o*'",
        ],
    ),
    (
        "SELECT state, COUNT(*) FROM city GROUP BY state",
        [
            "SELECT state, COUNT(*) AS n FROM city GROUP BY 1",
            "SELECT state, SUM(1) FROM city GROUP BY state",
            "SELECT state, COUNT(id) FROM city GROUP BY state ORDER BY 2",
            "SELECT DISTINCT state, COUNT(*) OVER (PARTITION BY state) FROM city",
            "SELECT c.state, (SELECT COUNT(*) FROM city d WHERE d.state = c.state) FROM city c GROUP BY c.state",
        ],
        [
            "SELECT state, COUNT(pop) FROM city GROUP BY state",
            "SELECT state, COUNT(DISTINCT name) FROM city GROUP BY state",
            "SELECT COUNT(*), state FROM city GROUP BY state",
            "SELECT state, COUNT(*) FROM city GROUP BY name",
            "SELECT state, COUNT(*) OVER (PARTITION BY state) FROM city",
            "SELECT state, COUNT(*) FROM city GROUP BY state HAVING COUNT(*) > 1",
        ],
    ),
    (
        "SELECT city.name FROM city, state WHERE city.state = state.name AND region = 'south'",
        [
            "SELECT city.name FROM city JOIN state ON (city.state = state.name) WHERE region = 'south'",
            "SELECT c.name FROM state s INNER JOIN city c ON s.name = c.state AND s.region = 'south'",
            "SELECT name FROM city WHERE state IN (SELECT name FROM state WHERE region = 'south')",
            "SELECT name FROM city c WHERE EXISTS (SELECT * FROM state s WHERE s.name = c.state AND s.region = 'south')",
            "SELECT c.name FROM city c LEFT JOIN state s ON c.state = s.name WHERE s.region = 'south'",
            "WITH s AS (SELECT name AS state FROM state WHERE region = 'south') SELECT name FROM city JOIN s USING (state)",
            "SELECT name FROM city WHERE (SELECT region FROM state WHERE state.name = city.state) = 'south'",
        ],
        [
            "SELECT city.name FROM city, state WHERE region = 'south'",
            "SELECT city.name FROM city JOIN state ON city.state = state.name",
            "SELECT city.name FROM city JOIN state ON city.id = state.sid WHERE region = 'south'",
            "SELECT city.name FROM city LEFT JOIN state ON city.state = state.name AND region = 'south'",
            "SELECT DISTINCT state FROM city WHERE state IN (SELECT name FROM state WHERE region = 'south')",
            "SELECT city.name FROM city JOIN state ON city.state = state.name WHERE region = 'north'",
            "SELECT city.name FROM city JOIN state ON city.state = state.name WHERE region <> 'south'",
            "SELECT state.name FROM city JOIN state ON city.state = state.name WHERE region = 'south'",
            "SELECT name FROM city WHERE state NOT IN (SELECT name FROM state WHERE region = 'south')",
        ],
    ),
    (
        "SELECT AVG(pop) FROM city WHERE state = 'texas'",
        [
            "SELECT SUM(pop) * 1.0 / COUNT(pop) FROM city WHERE state = 'texas'",
            "SELECT AVG(CASE WHEN state = 'texas' THEN pop END) FROM city",
            "SELECT AVG(pop) FILTER (WHERE state = 'texas') FROM city",
            "SELECT AVG(p) FROM (SELECT pop AS p FROM city WHERE state = 'texas')",
        ],
        [
            "SELECT SUM(pop) / COUNT(*) FROM city WHERE state = 'texas'",
            "SELECT SUM(pop) / COUNT(pop) FROM city WHERE state = 'texas'",
            "SELECT AVG(DISTINCT pop) FROM city WHERE state = 'texas'",
            "SELECT SUM(pop) FROM city WHERE state = 'texas'",
            "SELECT MAX(pop) FROM city WHERE state = 'texas'",
            "SELECT AVG(COALESCE(pop, 0)) FROM city WHERE state = 'texas'",
            "SELECT AVG(pop) FROM city",
            "SELECT AVG(area) FROM city WHERE state = 'texas'",
        ],
    ),
    (
        "SELECT name FROM city WHERE pop = (SELECT MAX(pop) FROM city)",
        [
            "SELECT name FROM (SELECT name, RANK() OVER (ORDER BY pop DESC) r FROM city) WHERE r = 1",
            "SELECT c.name FROM city c JOIN (SELECT MAX(pop) AS most FROM city) m ON c.pop = m.most",
            "WITH most AS (SELECT MAX(pop) AS p FROM city) SELECT name FROM city, most WHERE pop = p",
            "SELECT name FROM city WHERE pop >= (SELECT MAX(pop) FROM city)",
        ],
        [
            "SELECT name FROM city ORDER BY pop LIMIT 1",
            "SELECT name FROM city WHERE pop = (SELECT MIN(pop) FROM city)",
            "SELECT name FROM city WHERE pop < (SELECT MAX(pop) FROM city)",
            "SELECT name, MAX(pop) FROM city",
            "SELECT name FROM city ORDER BY pop DESC LIMIT 2",
        ],
    ),
    (
        "SELECT name FROM city ORDER BY pop DESC LIMIT 3",
        [
            "SELECT name FROM city ORDER BY pop DESC LIMIT 3 OFFSET 0",
            "SELECT c.name FROM city c ORDER BY c.pop DESC, c.name LIMIT 3",
            "SELECT name FROM (SELECT name, ROW_NUMBER() OVER (ORDER BY pop DESC) n FROM city) WHERE n <= 3 ORDER BY n",
        ],
        [
            "SELECT name FROM city ORDER BY pop LIMIT 3",
            "SELECT name FROM city ORDER BY pop DESC LIMIT 2",
            "SELECT name FROM city ORDER BY pop DESC LIMIT 4",
            "SELECT name FROM city ORDER BY pop DESC LIMIT 3 OFFSET 1",
            "SELECT name FROM city ORDER BY area DESC LIMIT 3",
            "SELECT name FROM (SELECT name FROM city ORDER BY pop DESC LIMIT 3) ORDER BY name",
        ],
    ),
    (
        "SELECT name, pop FROM city WHERE state = 'texas' ORDER BY name",
        [
            "SELECT name, pop FROM city WHERE state = 'texas' ORDER BY 1 ASC",
            "SELECT name AS n, pop FROM city WHERE state = 'texas' ORDER BY n, pop DESC",
        ],
        [
            "SELECT name, pop FROM city WHERE state = 'texas'",
            "SELECT name, pop FROM city WHERE state = 'texas' ORDER BY name DESC",
            "SELECT name, pop FROM city WHERE state = 'texas' ORDER BY pop",
            "SELECT pop, name FROM city WHERE state = 'texas' ORDER BY name",
        ],
    ),
    (
        "SELECT DISTINCT state FROM city WHERE pop BETWEEN 100 AND 1000",
        [
            "SELECT state FROM city WHERE pop >= 100 AND pop <= 1000 GROUP BY state",
            "SELECT state FROM city WHERE pop BETWEEN 100 AND 1000 UNION SELECT state FROM city WHERE 0",
            "SELECT DISTINCT state FROM city WHERE NOT (pop < 100 OR pop > 1000)",
        ],
        [
            "SELECT state FROM city WHERE pop BETWEEN 100 AND 1000",
            "SELECT DISTINCT state FROM city WHERE pop > 100 AND pop <= 1000",
            "SELECT DISTINCT state FROM city WHERE pop >= 100 AND pop < 1000",
            "SELECT DISTINCT state FROM city WHERE pop NOT BETWEEN 100 AND 1000",
            "SELECT DISTINCT state FROM city WHERE pop BETWEEN 1000 AND 100",
            "SELECT DISTINCT state FROM city WHERE pop >= 100",
        ],
    ),
    (
        "SELECT state FROM city GROUP BY state HAVING COUNT(*) > 2",
        [
            "SELECT state FROM city GROUP BY state HAVING COUNT(id) >= 3",
            "SELECT state FROM (SELECT state, COUNT(*) AS n FROM city GROUP BY state) WHERE n > 2",
            "SELECT DISTINCT state FROM city c WHERE (SELECT COUNT(*) FROM city d WHERE d.state = c.state) > 2",
        ],
        [
            "SELECT state FROM city GROUP BY state HAVING COUNT(*) >= 2",
            "SELECT state FROM city GROUP BY state HAVING COUNT(*) > 3",
            "SELECT state FROM city GROUP BY state HAVING COUNT(*) = 3",
            "SELECT state FROM city GROUP BY state HAVING COUNT(*) < 2",
            "SELECT state FROM city GROUP BY state",
        ],
    ),
    (
        "SELECT name FROM state WHERE name NOT IN (SELECT state FROM city)",
        [
            "SELECT s.name FROM state s WHERE NOT EXISTS (SELECT 1 FROM city c WHERE c.state = s.name)",
            "SELECT s.name FROM state s LEFT JOIN city c ON c.state = s.name WHERE c.id IS NULL",
            "SELECT name FROM state EXCEPT SELECT state FROM city",
        ],
        [
            "SELECT name FROM state WHERE name IN (SELECT state FROM city)",
            "SELECT name FROM state WHERE name NOT IN (SELECT name FROM city)",
            "SELECT state FROM city EXCEPT SELECT name FROM state",
            "SELECT s.name FROM state s JOIN city c ON c.state <> s.name",
            "SELECT name FROM state",
        ],
    ),
    (
        "SELECT name FROM city WHERE strftime('%Y', founded) = '1839'",
        [
            "SELECT name FROM city WHERE founded LIKE '1839-%'",
            "SELECT name FROM city WHERE strftime('%Y', founded) + 0 = 1839",
            "SELECT name FROM city WHERE SUBSTR(founded, 1, 4) = '1839'",
            "SELECT name FROM city WHERE founded >= '1839-01-01' AND founded < '1840-01-01'",
            "SELECT name FROM city WHERE CAST(strftime('%Y', founded) AS INTEGER) = 1839",
        ],
        [
            "SELECT name FROM city WHERE strftime('%Y', founded) >= '1839'",
            "SELECT name FROM city WHERE strftime('%Y', founded) = '1840'",
            "SELECT name FROM city WHERE strftime('%m', founded) = '12'",
            "SELECT name FROM city WHERE strftime('%Y', founded) = 1839",
            "SELECT name FROM city WHERE founded = '1839-12-27'",
        ],
    ),
    (
        "SELECT SUM(pop) / COUNT(pop) FROM city",
        ["SELECT CAST(AVG(pop) AS INTEGER) FROM city", "SELECT CAST(SUM(pop) / COUNT(pop) AS INTEGER) FROM city"],
        ["SELECT SUM(pop) / 1.0 / COUNT(pop) FROM city", "SELECT AVG(pop) FROM city", "SELECT SUM(pop) / COUNT(*) FROM city"],
    ),
    (
        "SELECT name FROM city WHERE state = 'texas' OR state = 'alaska' AND pop < 10",
        ["SELECT name FROM city WHERE state = 'texas' UNION ALL SELECT name FROM city WHERE state = 'alaska' AND pop < 10"],
        [
            "SELECT name FROM city WHERE (state = 'texas' OR state = 'alaska') AND pop < 10",
            "SELECT name FROM city WHERE state IN ('texas', 'alaska')",
            "SELECT name FROM city WHERE state = 'texas' AND state = 'alaska' AND pop < 10",
            "SELECT name FROM city WHERE state = 'texas' OR state = 'alaska' AND pop <= 10",
        ],
    ),
    (
        "SELECT name FROM city WHERE pop IS NULL",
        ["SELECT name FROM city WHERE NOT pop IS NOT NULL", "SELECT name FROM city WHERE IFNULL(pop, -1) = -1"],
        ["SELECT name FROM city WHERE pop IS NOT NULL", "SELECT name FROM city WHERE pop = NULL",
         "SELECT name FROM city WHERE founded IS NULL", "SELECT name FROM city WHERE pop = 0"],
    ),
    (
        "SELECT MAX(pop, 100) FROM city WHERE pop IS NOT NULL",
        ["SELECT CASE WHEN pop > 100 THEN pop ELSE 100 END FROM city WHERE pop IS NOT NULL",
         "SELECT IIF(pop < 100, 100, pop) FROM city WHERE NOT pop IS NULL"],
        ["SELECT MAX(pop) FROM city", "SELECT MIN(pop, 100) FROM city WHERE pop IS NOT NULL",
         "SELECT MAX(pop, 101) FROM city WHERE pop IS NOT NULL"],
    ),
    (
        "SELECT name, RANK() OVER (ORDER BY pop DESC) FROM city",
        ["SELECT c.name, (SELECT COUNT(*) FROM city d WHERE d.pop > c.pop OR (c.pop IS NULL AND d.pop IS NOT NULL)) + 1"
         " FROM city c"],
        ["SELECT name, RANK() OVER (ORDER BY pop) FROM city", "SELECT name, DENSE_RANK() OVER (ORDER BY pop DESC) FROM city",
         "SELECT name, ROW_NUMBER() OVER (ORDER BY pop DESC) FROM city"],
    ),
    (
        "SELECT name FROM city WHERE name = 'zzz'",
        ["SELECT name FROM city WHERE 'zzz' = name"],
        ["SELECT region FROM state WHERE sid = 99", "SELECT name FROM city WHERE name = 'zz'", "SELECT name FROM city WHERE 0"],
    ),
    (
        "SELECT s.region, SUM(c.pop) FROM state s LEFT JOIN city c ON c.state = s.name GROUP BY s.region",
        ["SELECT region, SUM(pop) FROM state LEFT OUTER JOIN city ON state.name = city.state GROUP BY 1",
         "SELECT region, SUM(p) FROM (SELECT region, (SELECT SUM(pop) FROM city WHERE state = s.name) p FROM state s)"
         " GROUP BY region"],
        ["SELECT s.region, SUM(c.pop) FROM state s JOIN city c ON c.state = s.name GROUP BY s.region",
         "SELECT s.region, COUNT(c.pop) FROM state s LEFT JOIN city c ON c.state = s.name GROUP BY s.region",
         "SELECT s.name, SUM(c.pop) FROM state s LEFT JOIN city c ON c.state = s.name GROUP BY s.name",
         "SELECT s.region, SUM(c.pop) FROM city c LEFT JOIN state s ON c.state = s.name GROUP BY s.region"],
    ),
]  # fmt: skip
SHOP_PAIRS = [
    (
        "SELECT c.name FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.total > 99.5",
        [
            "SELECT name FROM orders, customers WHERE customers.id = customer_id AND total > 99.5",
            "SELECT c.name FROM customers AS c INNER JOIN orders AS o ON c.id = o.customer_id AND o.total > 99.5",
            "SELECT (SELECT name FROM customers WHERE id = customer_id) FROM orders"
            " WHERE total > 99.5 AND customer_id IN (SELECT id FROM customers)",
        ],
        [
            "SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE total > 99.5)",
            "SELECT DISTINCT c.name FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.total > 99.5",
            "SELECT c.name FROM customers c JOIN orders o ON o.id = c.id WHERE o.total > 99.5",
            "SELECT c.name FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.total >= 99.5",
            "SELECT c.name FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.total > 99",
            "SELECT c.name FROM orders o LEFT JOIN customers c ON o.customer_id = c.id WHERE o.total > 99.5",
            "SELECT c.name FROM customers c, orders o WHERE o.total > 99.5",
        ],
    ),
    (
        "SELECT COUNT(DISTINCT customer_id) FROM orders WHERE status = 'open'",
        [
            "SELECT COUNT(*) FROM (SELECT DISTINCT customer_id FROM orders WHERE status = 'open')",
            "SELECT COUNT(DISTINCT CASE WHEN status = 'open' THEN customer_id END) FROM orders",
            "SELECT COUNT(*) FROM (SELECT 1 FROM orders WHERE status = 'open' GROUP BY customer_id)",
        ],
        [
            "SELECT COUNT(customer_id) FROM orders WHERE status = 'open'",
            "SELECT COUNT(*) FROM orders WHERE status = 'open'",
            "SELECT COUNT(DISTINCT id) FROM orders WHERE status = 'open'",
            "SELECT COUNT(DISTINCT customer_id) FROM orders",
            "SELECT COUNT(DISTINCT customer_id) FROM orders WHERE status <> 'open'",
        ],
    ),
    (
        "SELECT p.category, SUM(i.quantity * p.price) FROM items i JOIN products p ON p.id = i.product_id GROUP BY p.category",
        [
            "SELECT category, SUM(price * quantity) FROM products, items WHERE products.id = product_id GROUP BY category",
            "SELECT category, SUM(worth) FROM (SELECT category, quantity * price AS worth FROM items"
            " JOIN products ON products.id = items.product_id) GROUP BY 1",
        ],
        [
            "SELECT p.category, SUM(p.price) FROM items i JOIN products p ON p.id = i.product_id GROUP BY p.category",
            "SELECT p.category, SUM(i.quantity) * SUM(p.price) FROM items i JOIN products p ON p.id = i.product_id"
            " GROUP BY p.category",
            "SELECT p.title, SUM(i.quantity * p.price) FROM items i JOIN products p ON p.id = i.product_id GROUP BY p.title",
            "SELECT p.category, AVG(i.quantity * p.price) FROM items i JOIN products p ON p.id = i.product_id"
            " GROUP BY p.category",
            "SELECT p.category, SUM(i.quantity * p.price) FROM items i JOIN products p ON p.id = i.order_id"
            " GROUP BY p.category",
        ],
    ),
    (
        "SELECT c.name FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)",
        [
            "SELECT name FROM customers WHERE id NOT IN (SELECT customer_id FROM orders)",
            "SELECT c.name FROM customers c LEFT JOIN orders o ON o.customer_id = c.id WHERE o.id IS NULL",
            "SELECT name FROM customers WHERE (SELECT COUNT(*) FROM orders WHERE customer_id = customers.id) = 0",
        ],
        [
            "SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders)",
            "SELECT name FROM customers WHERE id NOT IN (SELECT id FROM orders)",
            "SELECT c.name FROM customers c JOIN orders o ON o.customer_id <> c.id",
        ],
    ),
    (
        "SELECT name FROM customers WHERE country = 'France' AND joined >= '2020-01-01' ORDER BY joined, name",
        [
            "SELECT name FROM customers WHERE joined >= '2020-01-01' AND country = 'France' ORDER BY joined ASC, name ASC",
            "SELECT name FROM (SELECT * FROM customers WHERE country = 'France') WHERE joined >= '2020-01-01'"
            " ORDER BY joined, name",
        ],
        [
            "SELECT name FROM customers WHERE country = 'France' AND joined > '2020-01-01' ORDER BY joined, name",
            "SELECT name FROM customers WHERE country = 'France' AND joined >= '2020-01-01' ORDER BY name",
            "SELECT name FROM customers WHERE country = 'France' AND joined >= '2020-01-01' ORDER BY joined DESC, name",
            "SELECT name FROM customers WHERE country = 'France' OR joined >= '2020-01-01' ORDER BY joined, name",
            "SELECT name FROM customers WHERE joined >= '2020-01-01' ORDER BY joined, name",
        ],
    ),
    (
        "SELECT o.id, COUNT(*) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id HAVING COUNT(*) >= 3",
        [
            "SELECT order_id, COUNT(*) FROM items WHERE order_id IN (SELECT id FROM orders) GROUP BY order_id"
            " HAVING COUNT(*) > 2",
            "SELECT * FROM (SELECT o.id, COUNT(i.order_id) n FROM orders o, items i WHERE o.id = i.order_id GROUP BY o.id)"
            " WHERE n >= 3",
        ],
        [
            "SELECT o.id, COUNT(*) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id HAVING COUNT(*) > 3",
            "SELECT o.id, COUNT(*) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id",
            "SELECT o.id, SUM(quantity) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id HAVING COUNT(*) >= 3",
            "SELECT o.id, COUNT(*) FROM orders o JOIN items i ON i.product_id = o.id GROUP BY o.id HAVING COUNT(*) >= 3",
        ],
    ),
    (
        "SELECT title FROM products WHERE price BETWEEN 10 AND 20 AND title LIKE 'A%'",
        [
            "SELECT title FROM products WHERE price >= 10 AND price <= 20 AND title LIKE 'a%'",
            "SELECT title FROM products WHERE price BETWEEN 10 AND 20 AND LOWER(SUBSTR(title, 1, 1)) = 'a'",
        ],
        [
            "SELECT title FROM products WHERE price BETWEEN 10 AND 20 AND title LIKE '%A%'",
            "SELECT title FROM products WHERE price > 10 AND price < 20 AND title LIKE 'A%'",
            "SELECT title FROM products WHERE price BETWEEN 10 AND 21 AND title LIKE 'A%'",
            "SELECT title FROM products WHERE price BETWEEN 10 AND 20 AND title NOT LIKE 'A%'",
            "SELECT title FROM products WHERE title LIKE 'A%'",
        ],
    ),
    (
        "SELECT customer_id, MAX(total) FROM orders GROUP BY customer_id ORDER BY MAX(total) DESC",
        [
            "SELECT customer_id, MAX(total) AS most FROM orders GROUP BY 1 ORDER BY most DESC",
            "SELECT DISTINCT customer_id, MAX(total) OVER (PARTITION BY customer_id) AS m FROM orders ORDER BY m DESC",
        ],
        [
            "SELECT customer_id, MAX(total) FROM orders GROUP BY customer_id ORDER BY customer_id",
            "SELECT customer_id, MAX(total) FROM orders GROUP BY customer_id ORDER BY MAX(total)",
            "SELECT customer_id, MIN(total) FROM orders GROUP BY customer_id ORDER BY MAX(total) DESC",
            "SELECT customer_id, MAX(total) FROM orders ORDER BY MAX(total) DESC",
        ],
    ),
]  # fmt: skip
GEOGRAPHY_PAIRS = [
    (
        "SELECT CITY_NAME FROM CITY WHERE POPULATION > 150000 AND STATE_NAME = 'kansas'",
        ["SELECT c.CITY_NAME FROM CITY c JOIN (SELECT 'kansas' AS s) ON s = c.STATE_NAME WHERE c.POPULATION > 150000"],
        ["SELECT CITY_NAME FROM CITY WHERE POPULATION >= 150000 AND STATE_NAME = 'kansas'",
         "SELECT CITY_NAME FROM CITY WHERE POPULATION > 150000",
         "SELECT DISTINCT STATE_NAME FROM CITY WHERE POPULATION > 150000 AND STATE_NAME = 'kansas'",
         "SELECT CITY_NAME FROM CITY WHERE POPULATION > 150000 OR STATE_NAME = 'kansas'"],
    ),
    (
        "SELECT RIVER_NAME FROM RIVER WHERE LENGTH > 750 AND TRAVERSE = 'texas'",
        ["SELECT r.RIVER_NAME FROM RIVER r WHERE NOT (r.LENGTH <= 750) AND r.TRAVERSE IN ('texas')"],
        ["SELECT RIVER_NAME FROM RIVER WHERE LENGTH > 750", "SELECT RIVER_NAME FROM RIVER WHERE TRAVERSE = 'texas'",
         "SELECT RIVER_NAME FROM RIVER WHERE LENGTH > 751 AND TRAVERSE = 'texas'"],
    ),
    (
        "SELECT BORDER FROM BORDER_INFO WHERE STATE_NAME = 'iowa'",
        ["SELECT b.BORDER FROM BORDER_INFO AS b WHERE 'iowa' = b.STATE_NAME"],
        ["SELECT STATE_NAME FROM BORDER_INFO WHERE STATE_NAME = 'iowa'",
         "SELECT BORDER FROM BORDER_INFO WHERE BORDER = 'iowa'", "SELECT BORDER FROM BORDER_INFO",
         "SELECT STATE_NAME FROM BORDER_INFO WHERE BORDER = 'iowa'"],
    ),
    (
        "SELECT STATE_NAME FROM STATE WHERE AREA = (SELECT MIN(AREA) FROM STATE)",
        ["SELECT s.STATE_NAME FROM STATE s WHERE NOT EXISTS (SELECT 1 FROM STATE t WHERE t.AREA < s.AREA)"],
        ["SELECT STATE_NAME FROM STATE WHERE AREA = (SELECT MAX(AREA) FROM STATE)",
         "SELECT STATE_NAME FROM STATE WHERE DENSITY = (SELECT MIN(DENSITY) FROM STATE)",
         "SELECT CAPITAL FROM STATE WHERE AREA = (SELECT MIN(AREA) FROM STATE)"],
    ),
    (
        "SELECT COUNT(DISTINCT RIVER_NAME) FROM RIVER",
        ["SELECT COUNT(*) FROM (SELECT RIVER_NAME FROM RIVER GROUP BY RIVER_NAME)"],
        ["SELECT COUNT(RIVER_NAME) FROM RIVER", "SELECT COUNT(*) FROM RIVER", "SELECT COUNT(DISTINCT TRAVERSE) FROM RIVER"],
    ),
    (
        "SELECT s.CAPITAL FROM STATE s JOIN BORDER_INFO b ON b.BORDER = s.STATE_NAME WHERE b.STATE_NAME = 'texas'",
        ["SELECT CAPITAL FROM STATE WHERE STATE_NAME IN (SELECT BORDER FROM BORDER_INFO WHERE STATE_NAME = 'texas')",
         "SELECT CAPITAL FROM BORDER_INFO, STATE WHERE BORDER_INFO.STATE_NAME = 'texas' AND BORDER = STATE.STATE_NAME"],
        ["SELECT s.CAPITAL FROM STATE s JOIN BORDER_INFO b ON b.STATE_NAME = s.STATE_NAME WHERE b.STATE_NAME = 'texas'",
         "SELECT s.CAPITAL FROM STATE s WHERE s.STATE_NAME = 'texas'",
         "SELECT s.CAPITAL FROM STATE s, BORDER_INFO b WHERE b.STATE_NAME = 'texas'",
         "SELECT s.CAPITAL FROM BORDER_INFO b LEFT JOIN STATE s ON b.BORDER = s.STATE_NAME WHERE b.STATE_NAME = 'texas'"],
    ),
]  # fmt: skip
