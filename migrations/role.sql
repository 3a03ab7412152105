-- Run once by the superuser on a new database, before the first migration: the service's own role,
-- which owns the database and nothing else. Its password comes from POSTGRES_PASSWORD.
\getenv password POSTGRES_PASSWORD
CREATE ROLE secondlook LOGIN PASSWORD :'password';
ALTER DATABASE secondlook OWNER TO secondlook;
-- nobody logs in as the superuser over the network
ALTER ROLE postgres PASSWORD NULL;
