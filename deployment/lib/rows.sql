-- How many rows each table has, one JSON object a line. For psql, read from a file or from stdin. The tables of extensions
-- are left out: a dump has none of their rows.
select format('select json_build_object(''table'', %L, ''rows'', count(*)) from only %I.%I',
        n.nspname || '.' || c.relname, n.nspname, c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        and not exists (select from pg_catalog.pg_depend d
            where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    order by n.nspname, c.relname
\gexec
